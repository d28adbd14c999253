"""Sums the gradients of the microbatches of a step, in an order that does not depend on how many processes share them.

With n microbatches and `ring`: the sum of the first half plus that of the second, each summed from left to right. That
is what two processes come to, and one process holds one further set of gradients for it, if there are four microbatches
or more. With `ordered`: halves of halves, down to what cannot be halved. That is what any number of processes comes to
that is a power of two.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from reprise.private_names.torch import foreach_add_
from reprise.training.processes import ALONE, Processes, Reduction
from reprise.training.running_statistics import RunningStatistics
from reprise.training.spread import Spread


class Accumulation:
    """Sums the gradients of the microbatches of one step, of which this process has its `share`.

    The step calls `weigh`, then for each of its microbatches a backward pass inside `microbatch`, then `finish`.

    Batch norm: all microbatches of a step start from the same running statistics, and the step moves them once, to the
    mean of what the microbatches make of them, those without items among them.
    """

    def __init__(
        self,
        model: nn.Module,
        num_microbatches: int,
        *,
        processes: Processes = ALONE,
        reduction: Reduction = "ring",
        spread: Spread | None = None,
    ) -> None:
        self.share = processes.share(num_microbatches)
        self.spread = Spread(model) if spread is None else spread
        self._processes = processes
        self._num_microbatches = num_microbatches
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._statistics = RunningStatistics(model)
        depth = num_halvings(len(self.share))
        if reduction == "ring":
            depth = min(depth, 1) if processes.size == 1 else 0
        self._num_per_leaf = len(self.share) >> depth
        """How many microbatches in a row autograd sums, from left to right, between two halvings."""
        self._weights: list[float] = []
        self._sums: list[list[Tensor | None]] = []
        """Of this step, the gradients of left halves whose right halves are not complete, the outermost first."""
        self._statistics_after: list[Tensor] = []
        """Of this step, the running statistics after each microbatch."""

    def num_here(self, num: int) -> int:
        """Return how many microbatches this process trains on in a step of `num`: as many as any other.

        One that has fewer takes part with those of others, which then count nothing.
        """
        return min(len(self.share), num)

    def weigh(self, counts: Sequence[int], num: int) -> tuple[list[float], int]:
        """Return the weight of the loss of each microbatch here, and the number of items of the step.

        `counts`: how many items the loss of each microbatch is a mean over; the step has `num` in all processes.
        """
        self._sums, self._statistics_after = [], []
        self._statistics.start()
        num_present = self._num_present(num)
        num_items = self._processes.total(sum(counts[:num_present]))
        self._weights = [count / max(1, num_items) if i < num_present else 0.0 for i, count in enumerate(counts)]
        return self._weights, num_items

    @contextlib.contextmanager
    def microbatch(self, position: int, num_here: int) -> Iterator[None]:
        """Add up the gradients of a backward pass with those before it; `position` counts from 0 here."""
        number, within = divmod(position, self._num_per_leaf)
        if number > 0 and within == 0:
            self._sums.append([parameter.grad for parameter in self._parameters])
            for parameter in self._parameters:
                parameter.grad = None
        without = contextlib.nullcontext() if self._weights[position] else self.spread.without_gradients()
        with self.spread.reducing(is_last=position == num_here - 1), without:
            yield
        self._statistics_after.append(self._statistics.take())
        if position == num_here - 1:
            num_complete = len(self._sums)
        elif within == self._num_per_leaf - 1:
            num_complete = num_halvings(number + 1)  # of halves that end with this leaf
        else:
            num_complete = 0
        for _ in range(num_complete):
            self._add(self._sums.pop())

    def finish(self, losses: list[Tensor], num: int) -> Tensor:
        """Leave the gradients of the whole step behind and return its loss; `losses` are weighted."""
        self.spread.reduce()
        if num < self._num_microbatches:
            # A sum with nothing is one with 0 elsewhere, and -0.0 is not 0.0.
            foreach_add_([parameter.grad for parameter in self._parameters if parameter.grad is not None], 0.0)
        if self._statistics:
            self._statistics.finish(self._gather(self._statistics_after, num))
        return self._gather(losses, num).sum()

    def _num_present(self, num: int) -> int:
        return len(range(self.share.start, min(self.share.stop, num)))

    def _gather(self, here: list[Tensor], num: int) -> Tensor:
        """Return one row for each of the `num` microbatches of the step."""
        present = here[: self._num_present(num)]
        missing = [torch.zeros_like(here[0])] * (len(self.share) - len(present))
        return self._processes.rows(torch.stack([*present, *missing]))[:num]

    def _add(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad += gradient


def num_halvings(num: int) -> int:
    """Return how often `num` can be halved."""
    return (num & -num).bit_length() - 1
