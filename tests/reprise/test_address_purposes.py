"""Purposes of random addresses are named in one module, so that no two of them meet."""

import ast
from pathlib import Path

import reprise

ENGINE = Path(reprise.__file__).parent
RAW = {"address", "numpy_generator"}


def is_randomness(module: str | None) -> bool:
    return module is not None and module.startswith("reprise.randomness")


def raw_addresses(source: str) -> list[int]:
    """Return the lines that name an address by its parts."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (
            isinstance(node, ast.ImportFrom) and is_randomness(node.module) and RAW & {name.name for name in node.names}
        )
        or (isinstance(node, ast.Attribute) and node.attr in RAW and "randomness" in ast.unparse(node.value))
    ]


def test_only_the_package_randomness_names_addresses_by_their_parts() -> None:
    assert raw_addresses("from reprise.randomness import address\naddress(1, 'step')") == [1]
    assert raw_addresses("reprise.randomness.address(1, 'step')") == [1]
    found = {
        str(path.relative_to(ENGINE)): lines
        for path in ENGINE.rglob("*.py")
        # What a project starts from is its user's code, and draws as a user does.
        if not {"randomness", "starter"} & {*path.parts} and (lines := raw_addresses(path.read_text(encoding="utf-8")))
    }
    assert found == {}
