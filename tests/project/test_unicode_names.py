from collections import Counter

from project.data.unicode_names import read_unicode_names
from reprise.data import fingerprint


def test_names_are_those_of_every_version_of_python() -> None:
    names = read_unicode_names()
    assert len(names) == len({name.name for name in names}) == 12_886
    assert (names[0].name, names[0].category) == ("SPACE", "Zs")
    assert (
        fingerprint([name.name for name in names], [name.category for name in names])
        == "3d98a0a4d7a94d7a11fd7031cec2e420c1c167be424d58a9e596efbac510fbc7"
    )


def test_categories_are_26_of_which_18_have_thirty_names_or_more() -> None:
    counts = Counter(name.category for name in read_unicode_names())
    assert len(counts) == 26
    assert sum(count >= 30 for count in counts.values()) == 18


def test_no_name_is_made_of_a_number() -> None:
    assert not [name for name in read_unicode_names() if name.name.startswith(("CJK UNIFIED", "HANGUL SYLLABLE"))]
