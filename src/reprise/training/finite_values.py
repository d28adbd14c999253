"""Checks that scores and weights are finite before they are written."""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reprise.errors import NonFiniteError
from reprise.private_names.torch import foreach_norm
from reprise.training.processes import Processes

logger = logging.getLogger(__name__)


def finite_scores(scores: Mapping[str, float], step: int, monitor: str | None = None) -> dict[str, float]:
    """Return the scores that are finite; of each other one a warning says that it is left out.

    Raises:
        NonFiniteError: if the one that is not finite is `monitor`: no checkpoint can be chosen by it.
    """
    kept = {}
    for name, value in scores.items():
        if math.isfinite(value):
            kept[name] = value
        elif name == monitor:
            raise NonFiniteError(f"{name} is {value} at step {step}; a smaller training.learning_rate may help")
        else:
            warn_of_nonfinite(name, value, step)
    return kept


def warn_of_nonfinite(name: str, value: float, step: int) -> None:
    logger.warning("%s is %s at step %d and left out: the files of a run hold finite numbers only", name, value, step)


def bound_magnitudes(tensors: Sequence[Tensor], processes: Processes) -> float:
    """Return a bound of all magnitudes, finite if they are, NaN if one is that; waits for the device once.

    It is the same in all processes, also where each has a part of every tensor. A maximum that gloo computes over them
    would not be NaN.
    """
    parts: list[Tensor] = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    present = [part for part in parts if part.numel()]  # of a small parameter a process may have nothing
    bound = 0.0
    if present:
        with torch.no_grad():
            for order in (2, math.inf):  # the first is faster, and may overflow
                norms = foreach_norm(present, order)
                bound = float(torch.stack([norm.float() for norm in norms]).max())
                if math.isfinite(bound):
                    break
    return bound if processes.size == 1 else float(processes.rows(torch.tensor([bound])).max())
