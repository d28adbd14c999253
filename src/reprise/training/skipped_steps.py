"""Optimizer steps that are counted and leave the model as it was: what they are skipped for, and how that is told."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from reprise.text.listing import first_few

_MOST_SAMPLES_SHOWN = 100


def first_nonfinite(
    loss: Tensor, gradient_norm: Tensor | None, parameters: Sequence[nn.Parameter] | None
) -> tuple[str, float] | None:
    """Wait for the device; return name and value of what is not finite of loss and gradients, None if all is.

    `parameters`: of which the gradients count; None where a scaler of the loss leaves steps with other gradients out.
    """
    values = {"training loss": loss}
    if parameters is not None:
        if gradient_norm is None:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            gradient_norm = whole(nn.utils.get_total_norm(gradients))
        values["gradient norm"] = gradient_norm
    return next(((name, float(value)) for name, value in values.items() if not math.isfinite(value)), None)


def without_items(step: int, samples: Sequence[int]) -> str:
    """Return what is said of a step whose batches have no item that a loss could be a mean over."""
    return f"step {step} has no item to train on: all labels are masked in {samples_in_words(samples)}"


def samples_in_words(samples: Sequence[int]) -> str:
    return f"the samples {first_few(samples, _MOST_SAMPLES_SHOWN)} of the training split"


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that is computed from a sharded model's parts as every process would read it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
