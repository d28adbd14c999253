"""How a run of Reprise is measured: callbacks as a user would write them."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reprise.callbacks import Callback, Run
from reprise.runs.persisters.checkpoints import Checkpoints
from workloads.marks import Marks, leave


class Measurement(Callback):
    """Notes the state of the process after the steps in `at`, and with `leave` ends it after the last of them."""

    def __init__(self, report: str, at: Sequence[int], leave: bool = True) -> None:
        self._marks = Marks(report, at, leave)

    def on_step_end(self, run: Run) -> None:
        self._marks.step_done(run.loop.step, val_loss=run.loop.metrics.get("val/loss"))


class TimedCheckpoints(Checkpoints):
    """Checkpoints, with the time for which they hold up the training thread; the process ends after `leave_after`."""

    def __init__(
        self,
        report: str,
        leave_after: int,
        every_epochs: int | None = None,
        every_steps: int | None = None,
        keep: int | None = None,
        background: bool = True,
    ) -> None:
        super().__init__(every_epochs, every_steps, background, keep)
        self._report = Path(report)
        self._leave_after = leave_after
        self._commits: list[tuple[float, float]] = []

    def on_commit(self, run: Run) -> None:
        began = time.perf_counter()
        super().on_commit(run)
        self._commits.append((began, time.perf_counter()))
        if run.loop.step == self._leave_after:
            leave(self._report, commits=self._commits)


class Synchronisations(Callback):
    """Counts how often the host waits for the GPU between the ends of two steps; the process ends after `leave_after`.

    As torch tells: https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    """

    def __init__(self, report: str, leave_after: int) -> None:
        self._report = Path(report)
        self._leave_after = leave_after
        self._counts: dict[int, int] = {}
        self._num = 0

    def on_epoch_start(self, run: Run) -> None:
        show = warnings.showwarning

        def count(message: Any, *others: Any, **more: Any) -> None:
            if "synchronizing CUDA operation" in str(message):
                self._num += 1
            else:
                show(message, *others, **more)

        warnings.showwarning = count
        warnings.filterwarnings("always", message=".*synchronizing CUDA operation")
        if run.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")

    def on_step_end(self, run: Run) -> None:
        self._counts[run.loop.step], self._num = self._num, 0
        if run.loop.step == self._leave_after:
            leave(self._report, synchronisations=self._counts)
