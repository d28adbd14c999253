"""Every path has one owner, and the page for users names the same ones."""

from pathlib import Path

import pytest

from reprise.tools.ownership.halves import ENGINE, LOCKS, PYPROJECT, SHARED, is_engine, is_shared

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "start-a-project.md"


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("src/reprise/training/loop.py", "engine"),
        ("src/reprise_extras/loop.py", "user"),
        ("docs/engine/decisions.md", "engine"),
        ("scripts/train.py", "engine"),
        ("configs/train.yaml", "user"),
        ("src/project/data/digits.py", "user"),
        ("Dockerfile", "shared"),
        ("Dockerfile.mine", "user"),
        ("README.md", "user"),
    ],
)
def test_path_has_the_owner(path: str, owner: str) -> None:
    assert (is_engine(path), is_shared(path)) == (owner == "engine", owner == "shared")


def test_no_path_is_of_two_owners() -> None:
    assert not [path for path in ENGINE if is_shared(path)]
    assert not [path for path in (*SHARED, PYPROJECT, *LOCKS) if is_engine(path)]


@pytest.mark.skipif(not PAGE.exists(), reason="the page was deleted")
def test_the_page_names_all_paths() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("## Whose file is whose") :]
    # A file below a folder is named with the folder.
    names = [path if path.startswith(("src", "tests", ".vscode/schemas")) else path.split("/")[0] for path in ENGINE]
    names += [path.split("/")[0] for path in SHARED] + [PYPROJECT, *LOCKS]
    assert [name for name in names if f"`{name}`" not in table and f"`{name}/`" not in table] == []
