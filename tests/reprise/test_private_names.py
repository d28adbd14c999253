"""Private names of other libraries are used in one module for each library, and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
OURS = ("reprise", "hydra_plugins")
DOCUMENTED = {"_exit", "_asdict", "_replace", "_fields"}
"""Names that their library documents although they begin with an underscore: of `os` and of named tuples."""
FILES = sorted(path for package in OURS for path in (SOURCE / package).rglob("*.py"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def own_names(tree: ast.AST) -> Iterator[str]:
    """Yield what a file defines itself: functions, classes, and attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


OWN = {name for path in FILES for name in own_names(ast.parse(path.read_text(encoding="utf-8")))}


def private_uses(path: Path) -> list[str]:
    """Return what a file takes from the private names of libraries, imported or as attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found, here = [], set(own_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            # A class may have an attribute from a base class of ours; of anything else this file sees its own alone.
            own = OWN if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") else here
            if node.attr in own:
                continue
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] not in OURS:
            parts = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            found += [f"{node.lineno}: {ast.unparse(node)}"] if any(map(is_private, parts)) else []
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] not in OURS]
            found += [f"{node.lineno}: {name}" for name in names if any(map(is_private, name.split(".")))]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_private_names_of_a_library_stand_in_its_module_of_private_names(path: Path) -> None:
    if path.parent.name != "private_names":
        assert private_uses(path) == []
