"""Learning rate schedules: a factor for each optimizer step, linear warm-up first.

Any `torch.optim.lr_scheduler` that steps without a metric serves as well; these cost one float a step.
"""

import abc
import math
import warnings
from typing import Any

from torch.optim import Optimizer


class Schedule(abc.ABC):
    """Multiplies the learning rate of every parameter group by `decay`, after a linear rise over `warmup_steps`.

    `warmup_steps` and `total_steps` count optimizer steps; the run gives both.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, total_steps: int) -> None:
        # The optimizer, not its groups: it replaces them when it loads its state.
        self._optimizer = optimizer
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._warmup_steps = warmup_steps
        self._total_steps = total_steps
        self._num_steps = 0
        self._apply()

    @abc.abstractmethod
    def decay(self, progress: float) -> float:
        """Return the factor at `progress` from 0 (end of the warm-up) to 1 (end of the run)."""

    def step(self) -> None:
        self._num_steps += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"num_steps": self._num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_steps = state["num_steps"]
        self._apply()

    def _apply(self) -> None:
        # The first step takes a share of the rate already: a step at rate 0 would be a step for nothing.
        if self._num_steps < self._warmup_steps:
            factor = (self._num_steps + 1) / self._warmup_steps
        else:
            num_decay_steps = max(1, self._total_steps - self._warmup_steps)
            factor = self.decay(min(1.0, (self._num_steps - self._warmup_steps) / num_decay_steps))
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor


class ConstantSchedule(Schedule):
    """Stays at the full rate; does not depend on the length of the run."""

    def decay(self, progress: float) -> float:
        return 1.0


class LinearSchedule(Schedule):
    """Falls linearly to 0."""

    def decay(self, progress: float) -> float:
        return 1.0 - progress


class CosineSchedule(Schedule):
    """Falls to 0 along half a cosine (Loshchilov and Hutter 2017, "SGDR", without restarts)."""

    def decay(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


def wind(scheduler: Any, num_steps: int) -> None:
    """Put a schedule that has just been made where it is after so many steps; any of torch's, too."""
    if type(scheduler).load_state_dict is Schedule.load_state_dict:
        scheduler.load_state_dict({"num_steps": num_steps})
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: the optimizer has made no step
        for _ in range(num_steps):
            scheduler.step()
