"""The running statistics of batch norms, which all microbatches of a step start from and move once together."""

import torch
from torch import Tensor, nn

from reprise.private_names.torch import NormBase


def norms_with_statistics(model: nn.Module) -> list[NormBase]:
    """Return the batch norms of a model, and what else keeps such running statistics."""
    return [m for m in model.modules() if isinstance(m, NormBase) and m.running_mean is not None]


class RunningStatistics:
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
