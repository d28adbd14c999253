"""Compares nested plain values, key by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprise.files.json_values import flattened


@dataclass(frozen=True)
class Difference:
    """A dotted key that has another value, or that only one side has; the other's value is then None."""

    key: str
    first: Any
    second: Any


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two nested mappings down to single values, in the order of their keys."""
    flat_first, flat_second = flattened(first), flattened(second)
    return [
        Difference(key, flat_first.get(key), flat_second.get(key))
        for key in sorted(flat_first.keys() | flat_second.keys())
        if key not in flat_first or key not in flat_second or flat_first[key] != flat_second[key]
    ]
