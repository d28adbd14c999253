"""`pyproject.toml` is merged from three sides: the template's changes arrive; the user's lines and comments stay."""

import tomllib
from typing import Any

import pytest
from tiny_template import FILES

from reprise.tools.ownership.identity import Identity
from reprise.tools.ownership.pyproject import merged, read_pyproject, with_identity
from reprise.tools.ownership.work_tree import File

TEMPLATE = FILES["pyproject.toml"]
BASE = read_pyproject(File(TEMPLATE.encode()))
MINE = with_identity(File(TEMPLATE.encode()), Identity("tumour-lab", "tumour_lab", "Ada", None, None)).content.decode()


def merge(mine: str, template: str, base: dict[str, Any] = BASE) -> tuple[str, list[str]]:
    file, notes = merged(File(mine.encode()), base, File(template.encode()))
    text = file.content.decode()
    tomllib.loads(text)
    return text, notes


def test_nothing_new_changes_no_character() -> None:
    mine = MINE.replace('"numpy>=2", # arrays', '"pandas>=2",   # tables\n"numpy >=2.1" ,  # mine')
    assert merge(mine, TEMPLATE) == (mine, [])


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("torch>=2.11", "torch>=2.12", "project.dependencies: torch>=2.11 → torch>=2.12"),
        ('"numpy>=2", # arrays', '"numpy>=2", # arrays\n"joblib>=1",', "project.dependencies: joblib>=1, new"),
        ('    "torch>=2.11",\n', "", "project.dependencies: torch>=2.11, removed"),
        ("ray>=2.40", "ray>=2.50", "project.optional-dependencies.ray: ray>=2.40 → ray>=2.50"),
        ('ray = ["ray>=2.40"]', "", "project.optional-dependencies.ray: removed"),
        ('ray = ["ray>=2.40"]', 'ray = ["ray>=2.40"]\nhub = ["datasets"]', "project.optional-dependencies.hub: new"),
        ("pytest>=8", "pytest>=9", "dependency-groups.dev: pytest>=8 → pytest>=9"),
        ("reprise[ray]", "reprise[hub,ray]", "dependency-groups.dev: tumour-lab[ray] → tumour-lab[hub,ray]"),
        ('ray = ["ray>=2.40"]', 'ray = ["ray>=2.40"]\na = ["reprise[ray]"]', "project.optional-dependencies.a: new"),
        ("setuptools>=77", "setuptools>=80", "build-system.requires: setuptools>=77 → setuptools>=80"),
        (">=3.11", ">=3.12", "project.requires-python: >=3.11 → >=3.12"),
        ("line-length = 120", "line-length = 99", "tool.ruff.line-length: 120 → 99"),
        ("[tool.ruff]", '[tool.mypy]\nfiles = ["src"]\n\n[tool.ruff]', "tool.mypy: new"),
    ],
)
def test_change_of_the_template_arrives_and_is_named(old: str, new: str, note: str) -> None:
    assert old in TEMPLATE
    text, notes = merge(MINE, TEMPLATE.replace(old, new))
    assert notes == [note]
    values = tomllib.loads(text)
    wanted = tomllib.loads(TEMPLATE.replace(old, new).replace("reprise[", "tumour-lab["))
    for table in ("build-system", "dependency-groups", "tool"):
        assert values[table] == wanted[table]
    for key in ("requires-python", "optional-dependencies"):
        assert values["project"][key] == wanted["project"][key]
    assert sorted(values["project"]["dependencies"]) == sorted(wanted["project"]["dependencies"])
    assert values["project"]["name"] == "tumour-lab"
    assert "# The packages of the template." in text
    assert "# arrays" in text
    assert merge(text, TEMPLATE.replace(old, new)) == (text, [])


@pytest.mark.parametrize(
    ("mine", "template"),
    [
        (("torch>=2.11", "torch>=2.11.1,<3"), ("torch>=2.11", "torch>=2.12")),
        (("line-length = 120", "line-length = 80"), ("line-length = 120", "line-length = 99")),
    ],
)
def test_line_that_both_changed_stays_the_users_and_is_named(mine: tuple[str, str], template: tuple[str, str]) -> None:
    edited = MINE.replace(*mine)
    text, notes = merge(edited, TEMPLATE.replace(*template))
    assert text == edited
    (note,) = notes
    assert "yours stays" in note


def test_what_the_user_removed_stays_removed() -> None:
    mine = MINE.replace('ray = ["ray>=2.40"]', "").replace('    "torch>=2.11",\n', "").replace("# characters", "")
    text, notes = merge(mine, TEMPLATE.replace("torch>=2.11", "torch>=2.12").replace("ray>=2.40", "ray>=3"))
    assert (text, notes) == (mine, [])


def test_name_version_and_author_are_the_users() -> None:
    newer = TEMPLATE.replace('version = "0.2.0"', 'version = "0.3.0"').replace("MIT", "Apache-2.0")
    assert merge(MINE, newer) == (MINE, [])


def test_without_a_base_nothing_is_removed_and_nothing_replaced() -> None:
    mine = MINE.replace("torch>=2.11", "torch>=2.10")
    text, notes = merge(mine, TEMPLATE.replace('"numpy>=2", # arrays', '"joblib>=1",'), {})
    assert [line for line in notes if "new" not in line] == [
        "project.dependencies: yours stays torch>=2.10, the template has torch>=2.11"
    ]
    assert {"numpy>=2", "torch>=2.10", "joblib>=1"} <= set(tomllib.loads(text)["project"]["dependencies"])
