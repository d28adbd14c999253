"""Makes plain values of what users' code returns for a JSON file."""

import math
from collections.abc import Mapping
from typing import Any


def plain_json(value: Any, where: str) -> Any:
    """Return `value` as JSON holds it: scalars and arrays of NumPy and tensors as numbers and lists.

    Floats that are not finite become null, since JSON has none of them. `where`: what to call the value in a message.

    Raises:
        TypeError: if something in it is of another kind; the message says where.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "tolist"):  # NumPy's floats are floats, too, and its texts are texts
        return plain_json(value.tolist(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key, where): plain_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where}: expected numbers, texts, lists and mappings, got {type(value).__name__}")


def _key(key: Any, where: str) -> Any:
    plain = plain_json(key, where)
    if isinstance(plain, list | dict):
        raise TypeError(f"{where}: expected texts and numbers as keys, got {type(key).__name__}")
    return plain
