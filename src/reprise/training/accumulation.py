"""Sums the gradients of the microbatches of a step, in an order that does not depend on how many processes share them.

With n microbatches and `ring`: the sum of the first half plus that of the second, each summed from left to right. That
is what two processes come to, and one process holds one further set of gradients for it, if there are four microbatches
or more. With `ordered`: halves of halves, down to what cannot be halved. That is what any number of processes comes to
that is a power of two.
"""

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from reprise.data import Batch
from reprise.training.processes import ALONE, Processes, Reduction

TrainOn = Callable[[Batch, int, float], Tensor]
"""Adds the gradients of a microbatch, by its number in the step, times a weight; returns the loss times that weight."""


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


class Accumulation:
    """Trains on the microbatches of one step, of which this process has its `share`.

    Batch norm: all microbatches of a step start from the same running statistics, and the step moves them once, to the
    mean of what the microbatches make of them.
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
        self._statistics = _RunningStatistics(model)
        self._num_halvings = num_halvings(len(self.share))
        if reduction == "ring":
            self._num_halvings = min(self._num_halvings, 1) if processes.size == 1 else 0

    def num_here(self, num: int) -> int:
        """Return how many microbatches this process trains on in a step of `num`: as many as any other.

        One that has fewer takes part with those of others, which then count nothing.
        """
        return min(len(self.share), num)

    def train(
        self, microbatches: Sequence[Batch], counts: Sequence[int], num: int, train_on: TrainOn
    ) -> tuple[Tensor, int]:
        """Leave the gradients of a step behind; return its loss and the items that this is a mean over.

        `microbatches`: this process's, of the `num` of the step. `counts`: how many items the loss of each counts.
        """
        num_present = self._num_present(num)
        num_items = self._processes.total(sum(counts[:num_present]))
        losses, statistics = [], []
        self._statistics.start()

        def leaf(position: int) -> None:
            weight = counts[position] / num_items if position < num_present else 0.0
            with self.spread.reducing(is_last=position == len(microbatches) - 1):
                losses.append(train_on(microbatches[position], self.share.start + position, weight))
            statistics.append(self._statistics.take())

        self._sum(0, len(self.share), self._num_halvings, len(microbatches), leaf)
        self.spread.reduce()
        if num < self._num_microbatches:
            # A sum with nothing is one with 0 elsewhere, and -0.0 is not 0.0.
            torch._foreach_add_([parameter.grad for parameter in self._parameters if parameter.grad is not None], 0.0)
        if self._statistics:
            self._statistics.finish(self._gathered(statistics[:num_present], statistics[0], num))
        return self._gathered(losses[:num_present], losses[0], num).sum(), num_items

    def _num_present(self, num: int) -> int:
        return len(range(self.share.start, min(self.share.stop, num)))

    def _gathered(self, here: list[Tensor], like: Tensor, num: int) -> Tensor:
        """Return one row for each of the `num` microbatches of the step."""
        missing = [torch.zeros_like(like)] * (len(self.share) - len(here))
        return self._processes.rows(torch.stack([*here, *missing]))[:num]

    def _sum(self, first: int, num: int, num_halvings: int, num_here: int, leaf: Callable[[int], None]) -> None:
        if num_halvings == 0:
            for position in range(first, min(first + num, num_here)):
                leaf(position)  # autograd adds
            return
        half = num // 2
        self._sum(first, half, num_halvings - 1, num_here, leaf)
        if first + half >= num_here:
            return
        held = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        self._sum(first + half, half, num_halvings - 1, num_here, leaf)
        for parameter, gradient in zip(self._parameters, held, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad += gradient


def has_order_of_one(num_processes: int, num_microbatches: int, parallel: str, reduction: str) -> bool:
    """Return whether so many processes have the bits of one (on CPUs, with the same number of threads)."""
    if num_processes == 1:
        return True
    is_tree = num_processes == num_microbatches or num_processes == 2 ** num_halvings(num_processes)
    return parallel == "ddp" and (num_processes == 2 or (reduction == "ordered" and is_tree))


def num_halvings(num: int) -> int:
    """Return how often `num` can be halved."""
    return (num & -num).bit_length() - 1


def sum_in_order(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of parts, halves of halves first, down to a number that cannot be halved."""
    if len(parts) % 2 == 0:
        half = len(parts) // 2
        return sum_in_order(parts[:half]) + sum_in_order(parts[half:])
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def norms_with_statistics(model: nn.Module) -> list[_NormBase]:
    """Return the batch norms of a model, and what else keeps such running statistics."""
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]


class _RunningStatistics:
    """The running statistics of all batch norms of a model, as one flat tensor."""

    def __init__(self, model: nn.Module) -> None:
        norms = norms_with_statistics(model)
        both = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
        self._buffers = [buffer for buffer in both if buffer is not None]
        self._counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
        self._nothing = torch.zeros(0)

    def __bool__(self) -> bool:
        return bool(self._buffers)

    @torch.no_grad()
    def start(self) -> None:
        self._before = self._flat().clone()
        self._num_before = [counter.clone() for counter in self._counters]

    @torch.no_grad()
    def take(self) -> Tensor:
        """Return what a microbatch has made of the statistics, and put them back to where the step began."""
        taken = self._flat()
        self._write(self._before)
        for counter, num in zip(self._counters, self._num_before, strict=True):
            counter.copy_(num)
        return taken

    @torch.no_grad()
    def finish(self, taken: Tensor) -> None:
        """Write the mean of what the microbatches have made of the statistics, (microbatches, values)."""
        total = taken[0]
        for one in taken[1:]:
            total = total + one
        self._write(total / len(taken))
        for counter in self._counters:
            counter += 1

    def _flat(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self._buffers]) if self._buffers else self._nothing

    def _write(self, flat: Tensor) -> None:
        sizes = [buffer.numel() for buffer in self._buffers]
        for buffer, values in zip(self._buffers, torch.split(flat, sizes), strict=True):
            buffer.copy_(values.view_as(buffer))
