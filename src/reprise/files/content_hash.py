"""The hash of what tensors and plain values hold, whatever file or device they are from."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, str, bytes)


def content_hash(value: Any) -> str:
    """Return the sha256 of tensors and plain values, in any nesting: of their content, never of a file's bytes.

    Equal content on any device has an equal hash; the order of a mapping's keys counts.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    kind = type(value)
    if isinstance(value, float):
        digest.update(b"float " + struct.pack("<d", value))
    elif value is None or kind in _PLAIN:
        text = value if kind is bytes else repr(value).encode()
        digest.update(f"{kind.__name__} {len(text)} ".encode() + text)
    elif isinstance(value, Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        data = value.detach().cpu().contiguous()
        if data.numel():
            digest.update(data.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:  # its `repr` leaves out what is in the middle
        digest.update(f"array {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    elif kind is dict or isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"{kind.__name__} {len(value)} ".encode())
        if set(map(type, value)) <= {int}:  # random states are hundreds of them
            digest.update(repr(value).encode())
        else:
            for item in value:
                _feed(digest, item)
    else:
        text = repr(value).encode()
        digest.update(f"{kind.__name__} {len(text)} ".encode() + text)
