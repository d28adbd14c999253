"""Reads JSON that may come from anywhere: of any size, nested to any depth, or cut off."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprise.errors import InputError

_MOST_BYTES = 2**28
_MOST_NESTED = 64


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty if there is no such file.

    Raises:
        InputError: if the file holds something else, or is larger or more deeply nested than any that a run writes.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{path}: expected at most {_MOST_BYTES} bytes of JSON, found {size}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of thousands of digits
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(values).__name__}")
    if _is_deeper(values, _MOST_NESTED):
        raise InputError(f"{path}: expected at most {_MOST_NESTED} levels of nesting")
    return values


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(item, dict | list)
        ]
    return bool(level)
