"""How a run of Reprise is measured: callbacks as a user would write them."""

import time
from collections.abc import Sequence
from pathlib import Path

from reprise.callbacks import Callback, Run
from reprise.callbacks.checkpoints import Checkpoints
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
