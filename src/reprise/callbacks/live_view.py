"""The live view of a run on a terminal, drawn with rich."""

import time
from collections.abc import Mapping

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from reprise.callbacks import TrainingLoop

_SECONDS_BETWEEN_LOSSES = 0.5


class LiveView:
    """Bars for epoch and run with the time left, the loss, and the scores: of the last evaluation and the best."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            expand=True,
        )
        self._tasks: tuple[TaskID, TaskID]
        self._loss_shown = 0.0
        self._live = Live(self._progress, refresh_per_second=5, transient=True)
        self._live.start()

    def show_start(self, loop: TrainingLoop) -> None:
        self._tasks = (
            self._progress.add_task("run", total=loop.total_steps, completed=loop.step, loss=""),
            self._progress.add_task("epoch", total=loop.steps_per_epoch, loss=""),
        )

    def show_step(self, loop: TrainingLoop) -> None:
        run, epoch = self._tasks
        position = (loop.step - loop.cadence.origin - 1) % loop.steps_per_epoch + 1
        self._progress.update(run, completed=loop.step)
        self._progress.update(epoch, completed=position, description=f"epoch {loop.epoch}")
        now = time.monotonic()
        # Reading the loss waits for the device, so it is read only as often as an eye can follow.
        if loop.loss is not None and now - self._loss_shown > _SECONDS_BETWEEN_LOSSES:
            self._loss_shown = now
            self._progress.update(epoch, loss=f"loss {float(loop.loss):.4f}")

    def show_scores(self, loop: TrainingLoop, metrics: Mapping[str, float]) -> None:
        assert loop.best is not None
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in metrics:
            table.add_column(name, justify="right")
        table.add_column(f"best {loop.monitor}", justify="right", style="bold green")
        best = f"{loop.best.value:.4g} (epoch {loop.best.epoch})"
        table.add_row(*(f"{value:.4g}" for value in metrics.values()), best)
        self._live.update(Group(self._progress, table))

    def close(self) -> None:
        self._live.stop()
