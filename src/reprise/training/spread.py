"""How one process trains a model; the ways in which several do it are in `parallel`."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def zero_gradient(parameter: nn.Parameter) -> RemovableHandle:
    """Have autograd add 0 to the gradient of a parameter until the hook is removed."""
    hook: RemovableHandle = parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
    return hook


class Spread:
    """How a model is trained: by one process as it is. Several processes have classes of their own."""

    def __init__(self, model: nn.Module) -> None:
        self.forward: nn.Module = model
        """What computes outputs in training."""

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """Return the context for one microbatch; with the last of a step, gradients may be summed on the way."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def without_gradients(self) -> Iterator[None]:
        """Have forward and backward passes inside the block add 0 to each gradient that they reach.

        The passes are made, since other processes wait for what they exchange.
        """
        hooks = [zero_gradient(parameter) for parameter in self.forward.parameters() if parameter.requires_grad]
        try:
            with torch.autograd.set_detect_anomaly(False):  # a loss that is a mean over nothing is none
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def reduce(self) -> None:
        """Sum the gradients over all processes, as far as that has not been done on the way."""
