"""Plain values and tensors in JSON that give the same values back: what JSON has no form for is under a tag."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def tagged(value: Any) -> Any:
    """Return a value that a checkpoint can hold as JSON can; `untagged` returns it again, to the bit."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        name = str(value.dtype).removeprefix("torch.")
        return {"$tensor": [name, list(value.shape), _text(flat.numpy().tobytes())]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, bytes):
        return {"$bytes": _text(value)}
    if isinstance(value, tuple):
        return {"$tuple": [tagged(item) for item in value]}
    if isinstance(value, list):
        return [tagged(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: tagged(item) for key, item in value.items()}
        return {"$items": [[tagged(key), tagged(item)] for key, item in value.items()]}
    return value


def untagged(value: Any) -> Any:
    """Return the value that `tagged` was given.

    Raises:
        ValueError: if it cannot have made this.
    """
    if isinstance(value, list):
        return [untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: untagged(item) for key, item in value.items()}
    content = value[tag]
    try:
        if tag == "$tensor":
            name, shape, text = content
            dtype = getattr(torch, name)
            if not isinstance(dtype, torch.dtype):
                raise ValueError(f"no type of numbers: {name!r}")
            data = bytearray(base64.b64decode(text))
            flat = torch.frombuffer(data, dtype=torch.uint8).view(dtype) if data else torch.empty(0, dtype=dtype)
            return flat.reshape(shape)
        if tag == "$items":
            return {untagged(key): untagged(item) for key, item in content}
        if tag == "$tuple":
            return tuple(map(untagged, content))
        return {"$float": float, "$bytes": base64.b64decode}[tag](content)  # type: ignore[operator]
    except (AttributeError, LookupError, TypeError, RuntimeError) as error:
        raise ValueError(f"{tag}: {error}") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
