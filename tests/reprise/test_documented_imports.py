"""What a user's packages under `src/` import of the engine is what `docs/your-own.md` documents."""

import ast

import pytest
from tiny_runs import REPOSITORY, TESTS

import reprise

DOCUMENTED = {
    *("reprise.callbacks", "reprise.config", "reprise.errors", "reprise.metrics", "reprise.randomness"),
    *("reprise.data", "reprise.data.split_files", "reprise.data.splitting", "reprise.data.tables"),
    *("reprise.data.tokenization", "reprise.data.tokenized_texts"),
    *("reprise.models", "reprise.models.pretrained", "reprise.trackers.base", "reprise.trackers.server"),
}
PAGE = REPOSITORY / "docs" / "your-own.md"


def undocumented(source: str) -> list[str]:
    """Return what a module imports of the engine beyond the documented names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module in {"reprise", *DOCUMENTED}:
            # Of a package, a name or one of its modules.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in names if is_module(name) or is_private(name) or node.module == "reprise"]
            names = [name for name in names if name.removeprefix("reprise.") not in reprise.__all__]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found += [name for name in names if name.split(".")[0] == "reprise" and name not in {"reprise", *DOCUMENTED}]
    return found


def is_module(name: str) -> bool:
    place = REPOSITORY / "src" / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").exists()


def is_private(name: str) -> bool:
    return name.rpartition(".")[2].startswith("_")


def test_own_packages_import_documented_names_only() -> None:
    roots = [path for path in (REPOSITORY / "src").iterdir() if path.name not in ("reprise", "hydra_plugins")]
    files = [file for root in [*roots, TESTS / "src"] for file in ([root] if root.is_file() else root.rglob("*.py"))]
    found = {str(file): undocumented(file.read_text(encoding="utf-8")) for file in files if file.suffix == ".py"}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import reprise\nfrom reprise import load_run\nfrom reprise.data import Data, splitting", []),
        ("from reprise.runs.train import train", ["reprise.runs.train"]),
        ("import reprise.training.loop as loop", ["reprise.training.loop"]),
        ("from reprise import runs", ["reprise.runs"]),
        ("from reprise.callbacks import seeding", ["reprise.callbacks.seeding"]),
        ("from reprise.data.tables import _text", ["reprise.data.tables._text"]),
        ("def f():\n    from reprise.files import lock", ["reprise.files"]),
        ("from .files import lock", []),
    ],
)
def test_other_imports_are_noticed(source: str, names: list[str]) -> None:
    assert undocumented(source) == names


@pytest.mark.skipif(not PAGE.exists(), reason="the page was deleted")
def test_the_page_names_each_documented_module() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [module for module in sorted(DOCUMENTED) if f"`{module}`" not in text] == []


def test_documented_modules_exist() -> None:
    assert [name for name in sorted(DOCUMENTED) if not is_module(name)] == []
