"""How one process trains a model; the ways in which several do it are in `parallel`."""

import contextlib

from torch import nn


class Spread:
    """How a model is trained: by one process as it is. Several processes have classes of their own."""

    def __init__(self, model: nn.Module) -> None:
        self.forward: nn.Module = model
        """What computes outputs in training."""

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """Return the context for one microbatch; with the last of a step, gradients may be summed on the way."""
        return contextlib.nullcontext()

    def reduce(self) -> None:
        """Sum the gradients over all processes, as far as that has not been done on the way."""
