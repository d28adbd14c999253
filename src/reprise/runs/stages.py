"""What callbacks see of a run: one value before training, and one from the start of training on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from reprise.callbacks import Callback, Run
from reprise.data import Data
from reprise.runs.run_directory import RunDirectory
from reprise.training.loop import Loop
from reprise.training.processes import ALONE, Processes
from reprise.training.signals import Stoppable


@dataclass(frozen=True, kw_only=True)
class RunBeforeTraining:
    """A run whose parts are not built yet: `reprise.callbacks.StartedRun`, where the members are documented."""

    directory: RunDirectory
    config: Mapping[str, Any]
    seed: int
    record: Mapping[str, str] = field(default_factory=dict)
    callbacks: Mapping[str, Callback] = field(default_factory=dict)
    processes: Processes = ALONE
    stoppable: Stoppable = field(default_factory=Stoppable)
    results: Mapping[str, Any] | None = None
    missing: dict[str, Exception] = field(default_factory=dict)
    """What could not be made after training, and why: `reprise.runs.products`."""


@dataclass(frozen=True, kw_only=True)
class RunInTraining(RunBeforeTraining):
    """A run with all its parts: `reprise.callbacks.Run`."""

    data: Data
    model: nn.Module
    device: torch.device
    loop: Loop


class CallbackEvents:
    """Calls the callbacks that override an event of the loop. The run contains the loop, so `bind` sets it later."""

    def bind(self, run: Run, *observers: Callback) -> None:
        """Call the callbacks of `run`, and `observers` after them; required before the loop runs."""

        def overriding(event: str) -> list[Any]:
            return [
                partial(getattr(callback, event), run)
                for callback in [*run.callbacks.values(), *observers]
                if getattr(type(callback), event) is not getattr(Callback, event)
            ]

        self._epoch_start = overriding("on_epoch_start")
        self._step_end = overriding("on_step_end")
        self._eval_end = overriding("on_eval_end")
        self._epoch_end = overriding("on_epoch_end")
        self._commit = overriding("on_commit")

    def epoch_start(self) -> None:
        for call in self._epoch_start:
            call()

    def step_end(self) -> None:
        for call in self._step_end:
            call()

    def eval_end(self, metrics: Mapping[str, float]) -> None:
        for call in self._eval_end:
            call(metrics)

    def epoch_end(self) -> None:
        for call in self._epoch_end:
            call()

    def commit(self) -> None:
        for call in self._commit:
            call()
