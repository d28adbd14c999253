"""Compares nested plain values, key by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """A dotted key that has another value, or that only one side has; the other's value is then None."""

    key: str
    first: Any
    second: Any


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two nested mappings down to single values, in the order of their keys."""
    flat_first, flat_second = _flat(first), _flat(second)
    return [
        Difference(key, flat_first.get(key), flat_second.get(key))
        for key in sorted(flat_first.keys() | flat_second.keys())
        if key not in flat_first or key not in flat_second or flat_first[key] != flat_second[key]
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    parts = (_flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {key: item for part in parts for key, item in part.items()}
