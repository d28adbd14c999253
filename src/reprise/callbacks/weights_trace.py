"""Keeps a checksum of the weights as training goes, so that a repeat can tell at which step the two part.

Losses cannot: weights that differ in their last bits have equal losses for many steps. The checksums live in the
checkpoints, beside the state that they are about.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Run
from reprise.config import PositiveInt

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
_MAX_AT_ONCE = 2**22


class WeightsTrace(Callback):
    """Takes a checksum of all parameters every `every_steps` optimizer steps; null takes none."""

    on_every_process = True

    def __init__(self, every_steps: PositiveInt | None = 10) -> None:
        self._every_steps = every_steps
        self._steps: list[int] = []
        self._checksums: list[int] = []

    def on_step_end(self, run: Run) -> None:
        loop = run.loop
        if self._every_steps is not None and loop.step % self._every_steps == 0:
            self._steps.append(loop.step)
            self._checksums.append(checksum(loop.model))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": torch.tensor(self._steps), "checksums": torch.tensor(self._checksums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps, self._checksums = state["steps"].tolist(), state["checksums"].tolist()


@torch.no_grad()
def checksum(model: nn.Module) -> int:
    """Return a sum over the bits of all parameters, the same on every device and with any number of threads."""
    # Of squares: in a plain sum, one bit more here and one bit less there would cancel. It wraps around.
    sums = [(bits * bits).sum(dtype=torch.int32) for bits in _bits(model)]
    return int(torch.stack(sums).sum()) if sums else 0


def _bits(model: nn.Module) -> Iterator[Tensor]:
    """Yield the bits of all parameters as whole numbers, of small parameters many at once."""
    gathered: list[Tensor] = []
    num_gathered = 0
    for of_model in model.parameters():
        # Of a sharded model each process has a part of it.
        parameter = of_model.full_tensor() if hasattr(of_model, "full_tensor") else of_model
        if gathered and (parameter.dtype != gathered[0].dtype or num_gathered + parameter.numel() > _MAX_AT_ONCE):
            yield _join(gathered)
            gathered, num_gathered = [], 0
        gathered.append(parameter.reshape(-1))
        num_gathered += parameter.numel()
    if gathered:
        yield _join(gathered)


def _join(flat: list[Tensor]) -> Tensor:
    joined = torch.cat(flat) if len(flat) > 1 else flat[0]
    return joined.view(_INTEGERS[joined.element_size()]).to(torch.int32)
