"""Has a changed config of optimizer and schedule take effect in a run that resumes.

A saved state of an optimizer holds its settings beside its moments, and loading it brings back those of then. So they
are computed twice, from the config of then and from that of now, each with its schedule at the step where the run
resumes; what differs is set. What does not stays as it was saved: a callback may have changed it.
"""

import copy
import logging
from typing import Any

import torch

from reprise.config.schema import TrainingConfig
from reprise.optimization.schedules import wind
from reprise.runs.building import Task
from reprise.runs.loop_building import build_optimizer, build_schedule
from reprise.runs.resuming.restored_state import Saved
from reprise.training.loop import Loop

logger = logging.getLogger(__name__)

OPTIMIZER = ("training.optimizer", "training.weight_decay")
SCHEDULE = ("training.scheduler", "training.learning_rate", "training.warmup_steps")

Group = dict[str, Any]


class Settings:
    """What optimizer and schedule are set to: `prepare` comes before the saved state is loaded, and `apply` after."""

    def __init__(self, task: Task, loop: Loop, saved: Saved) -> None:
        self._task = task
        self._loop = loop
        self._saved = saved
        length_changed = saved.cadence.total_steps != loop.total_steps
        self.makes_schedule = length_changed or bool(saved.has_changed(*OPTIMIZER, *SCHEDULE))
        """Whether the schedule is made anew rather than loaded: those of torch keep all that they were made of."""
        self._configured = _groups(loop.optimizer)

    def prepare(self) -> None:
        if self.makes_schedule:
            wind(self._loop.scheduler, self._saved.step)

    def apply(self) -> None:
        """Set what differs, and see whether the optimizer can go on with it.

        Raises:
            ValueError: if the parameter groups are others.
            Exception: if the optimizer cannot; whatever it raises.
        """
        optimizer = self._loop.optimizer
        if not self.makes_schedule:
            self._warn_of_others(optimizer)
            return
        before = self._settings(self._saved.config.training, self._saved.cadence.total_steps)
        now = self._settings(self._task.config.training, self._loop.total_steps)
        for group, old, new in zip(optimizer.param_groups, before, now, strict=True):
            for name in old.keys() | new.keys():
                if name not in new:
                    group.pop(name, None)
                elif name not in old or not _are_equal(old[name], new[name]):
                    group[name] = new[name]
        if self._saved.has_changed(*OPTIMIZER):
            self._try(optimizer)

    def _settings(self, training: TrainingConfig, total_steps: int) -> list[Group]:
        optimizer = build_optimizer(self._task, training)
        wind(build_schedule(self._task, training, optimizer, total_steps), self._saved.step)
        return _groups(optimizer)

    def _try(self, optimizer: torch.optim.Optimizer) -> None:
        """Make a step with a copy of one parameter of each group and of its state."""
        groups = []
        for group in optimizer.param_groups:
            parameter = group["params"][0].detach().clone().requires_grad_()
            parameter.grad = torch.zeros_like(parameter)
            groups.append({**group, "params": [parameter]})
        trial = build_optimizer(self._task, self._task.config.training, groups)
        states = getattr(optimizer, "state", {})
        for mine, group in zip(trial.param_groups, optimizer.param_groups, strict=True):
            if group["params"][0] in states:
                trial.state[mine["params"][0]] = copy.deepcopy(states[group["params"][0]])
        trial.step()

    def _warn_of_others(self, optimizer: torch.optim.Optimizer) -> None:
        if getattr(self._loop.scheduler, "cycle_momentum", False):
            return  # it changes them at every step
        for group, configured in zip(_groups(optimizer), self._configured, strict=True):
            for name, value in configured.items():
                if name not in ("lr", "initial_lr") and name in group and not _are_equal(group[name], value):
                    logger.warning(
                        "training.optimizer: %s is %r in the saved state, %r by the config; it stays as it was saved",
                        *(name, group[name], value),
                    )


def _groups(optimizer: torch.optim.Optimizer) -> list[Group]:
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def _are_equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_are_equal, first, second))
    return bool(first == second)
