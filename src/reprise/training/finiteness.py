"""Adds up losses, and looks whether they, gradients and weights are finite; no step waits for the device for that."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reprise.errors import NonFiniteError
from reprise.training.finite_values import bound_magnitudes
from reprise.training.processes import ALONE, Processes
from reprise.training.skipped_steps import samples_in_words

_MOST_UNREAD = 256  # losses and norms on the device that nobody has looked at


class FiniteWatch:
    """Keeps losses and gradient norms on the device until somebody reads from it anyway, and then looks at all of them.

    `samples` returns the sample indices that an optimizer step, counted from 1, trains on. `ignores_gradients`: with a
    scaler of the loss, steps whose gradients are not finite are left out.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        samples: Callable[[int], Sequence[int]],
        *,
        ignores_gradients: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self.loss_sum = 0.0
        """Over the items of all steps that were looked at; whoever needs another one sets it back."""
        self.num_items = 0
        """How many items that sum is over."""
        self._parameters = parameters
        self.samples = samples
        self._ignores_gradients = ignores_gradients
        self._processes = processes
        self._unread: list[tuple[int, Tensor, Tensor | None, float, int]] = []
        """Step, loss, gradient norm, learning rate, number of items."""

    def note(self, step: int, loss: Tensor, gradient_norm: Tensor | None, rate: float, num_items: int) -> None:
        """Remember what came of a step: `loss` is a mean over items, the norm is None where nothing is clipped."""
        self._unread.append((step, loss, None if self._ignores_gradients else gradient_norm, rate, num_items))
        if len(self._unread) == _MOST_UNREAD:
            self.check()

    def check(self) -> None:
        """Wait for the device, and look at all that is remembered.

        Raises:
            NonFiniteError: with the first step where something is not finite.
        """
        unread, self._unread = self._unread, []
        read = iter(numbers([value for _, *values, _, _ in unread for value in values if value is not None]))
        for step, _, norm, rate, num_items in unread:
            loss = next(read)
            if not math.isfinite(loss):
                raise self.error("training loss", loss, step, rate)
            if norm is not None and not math.isfinite(norm_read := next(read)):
                raise self.error("gradient norm", norm_read, step, rate)
            self.loss_sum += loss * num_items
            self.num_items += num_items

    def check_weights(self, step: int, rate: float) -> None:
        """Wait for the device, and look at the weights: where nothing is clipped nobody sees a gradient.

        Raises:
            NonFiniteError: if one is not finite.
        """
        bound = bound_magnitudes(self._parameters, self._processes)
        if not math.isfinite(bound):
            raise self.error("a weight", bound, step, rate)

    def error(self, name: str, value: float, step: int, rate: float) -> NonFiniteError:
        """Return what is said of a value of optimizer step `step` that is not finite."""
        where = f"at step {step}, with learning rate {rate:g} and {samples_in_words(self.samples(step))}"
        return NonFiniteError(
            f"{name} is {value} {where}; a smaller training.learning_rate or training.gradient_clip may help, and "
            "training.on_nonfinite=skip leaves such steps out"
        )


def numbers(scalars: Sequence[Tensor]) -> list[float]:
    """Return the values of tensors without dimensions; waits for their device once."""
    devices = {scalar.get_device() for scalar in scalars}
    if len(devices) == 1 and devices != {-1}:
        return [float(number) for number in torch.stack(list(scalars)).tolist()]
    return [float(scalar.item()) for scalar in scalars]  # on the host, reading each takes less than joining them
