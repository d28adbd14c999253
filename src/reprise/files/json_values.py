"""Looks things up in plain values, as JSON files hold them, of which any part may be missing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def at(source: Any, *path: str) -> Any:
    """Return what lies at `path` in nested mappings, or None."""
    for key in path:
        source = source.get(key) if isinstance(source, Mapping) else None
    return source


def text_at(source: Any, *path: str) -> str | None:
    value = at(source, *path)
    return value if isinstance(value, str) and value.strip() else None


def number_at(source: Any, *path: str) -> float | None:
    value = as_number(at(source, *path))
    return value if value is not None and math.isfinite(value) else None


def mapping_at(source: Any, *path: str) -> Mapping[str, Any]:
    value = at(source, *path)
    return value if isinstance(value, Mapping) else {}


def list_at(source: Any, *path: str) -> list[Any]:
    value = at(source, *path)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []


def mappings_at(source: Any, *path: str) -> list[Mapping[str, Any]]:
    return [item for item in list_at(source, *path) if isinstance(item, Mapping)]


def as_number(value: Any) -> float | None:
    """Return a plain number; of NumPy's scalars and tensors of one element, too."""
    if value is None or isinstance(value, bool | str | bytes):
        return None
    if isinstance(value, int):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(values: Any) -> dict[str, float]:
    """Return the entries of a mapping that are numbers."""
    if not isinstance(values, Mapping):
        return {}
    found = {str(name): as_number(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of nested mappings under its dotted key; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
