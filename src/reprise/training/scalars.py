"""Takes a scalar of any kind from users' code: of Python, NumPy or torch, or an array of one element."""

import inspect
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.errors import InputError


def plain_number(value: Any, origin: str) -> float:
    """Return a scalar as a number of Python: integers stay integers, a truth value is 0.0 or 1.0.

    `origin` says what it is, and the class that it comes from.

    Raises:
        InputError: if it is no scalar.
    """
    if type(value) is float or type(value) is int:
        return value
    plain: Any = value
    if (isinstance(value, Tensor) and value.numel() == 1) or (
        isinstance(value, np.ndarray | np.generic) and value.size == 1
    ):
        plain = value.item()
    if type(plain) is int:
        return plain
    if not isinstance(plain, numbers.Real):
        raise InputError(f"{origin}: expected one number, got {_shown(value)}")
    return float(plain)


def scalar_loss(loss: Any, model: nn.Module) -> Tensor:
    """Return the loss that a model returns as a tensor without dimensions.

    Raises:
        InputError: if it is not one number.
    """
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.reshape(())
    origin = f"model: the loss that {type(model).__name__}.forward returns, a mean over the items of the batch"
    return torch.tensor(plain_number(loss, origin))


def scalars_to_log(metrics: Mapping[str, Any]) -> dict[str, float | Tensor]:
    """Return what a callback logs; tensors stay tensors, without dimensions, so that nothing waits for their device.

    Raises:
        InputError: if a value is no scalar; it names the method that called the caller of this.
    """
    found: dict[str, float | Tensor] = {}
    for name, value in metrics.items():
        # What a step logs comes as it is to be, and naming a caller takes longer than all else.
        if type(value) is float or (
            type(value) is Tensor and not (value.ndim or value.requires_grad or value.is_complex())
        ):
            found[name] = value
        elif isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            found[name] = value.detach().reshape(())
        else:
            found[name] = plain_number(value, f"{name!r}, which {_caller()} logs")
    return found


def _caller() -> str:
    frame = inspect.currentframe()
    for _ in range(3):
        frame = None if frame is None else frame.f_back
    return "a callback" if frame is None else frame.f_code.co_qualname


def _shown(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)}"
    return f"{value!r:.100} ({type(value).__name__})"
