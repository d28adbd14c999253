"""Writes `metrics.jsonl`: one line for each step that has something to say."""

import contextlib
import math
import time
from typing import Any

from torch import Tensor

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config import PositiveInt
from reprise.errors import NonFiniteError
from reprise.runs.metrics_log import MetricEntry, MetricsLogger, timestamp
from reprise.training.cadence import is_every
from reprise.training.finite_values import warn_of_nonfinite
from reprise.training.finiteness import numbers

_SECONDS_BETWEEN_WRITES = 1.0
_MOST_WAITING_LINES = 512


class MetricsLog(Callback):
    """Every evaluation is a line; `every_steps` optimizer steps there is one with the metrics of that step as well.

    `train/loss` is the mean over all items since the evaluation before; `train/step_loss` is that of one step. Lines
    are written with each evaluation and checkpoint, and every second between: reading a number of the step that was
    just sent to a GPU would wait for it.
    """

    def __init__(self, every_steps: PositiveInt | None = 10) -> None:
        self._every_steps = every_steps
        self._waiting: list[tuple[float, int, int, dict[str, float | Tensor]]] = []
        self._last_step = -1
        self._last_write = 0.0
        self._warned: set[str] = set()
        """Metrics of which a value that is not finite was left out."""
        self._length = 0

    def on_run_start(self, run: StartedRun) -> None:
        self._logger = MetricsLogger(run.directory.metrics_log)

    def on_restored(self, run: Run) -> None:
        self._loop = run.loop
        # What came after the checkpoint, or what an attempt wrote that left none, will be written again.
        self._logger.truncate(self._length)

    def on_step_end(self, run: Run) -> None:
        loop = run.loop
        if not is_every(self._every_steps, loop.step):
            return
        values = {"train/step_loss": loop.loss, "train/gradient_norm": loop.gradient_norm}
        loop.log({name: value for name, value in values.items() if value is not None})
        loop.log({"train/learning_rate": float(loop.scheduler.get_last_lr()[0])})

    def on_commit(self, run: Run) -> None:
        if not run.loop.logged:
            return
        self._take_line()
        if (
            run.loop.evaluated_step == run.loop.step
            or len(self._waiting) == _MOST_WAITING_LINES
            or time.monotonic() - self._last_write > _SECONDS_BETWEEN_WRITES
        ):
            self._write()

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        with contextlib.suppress(NonFiniteError):  # by now the run has failed
            self._write()
        self._logger.close()

    def on_save(self, run: Run) -> None:
        # What saves the state may be called before `on_commit`: the line of this step belongs to it.
        self._take_line()
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"length": self._logger.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._length = state["length"]
        self._logger.check_length(self._length)

    def _take_line(self) -> None:
        loop = self._loop
        if (line := loop.logged) and self._last_step != loop.step:
            self._waiting.append((time.time(), loop.epoch, loop.step, dict(line)))
            self._last_step = loop.step

    def _write(self) -> None:
        if self._waiting:
            self._loop.check_finite()  # says more than that a line cannot be written
        waiting, self._waiting = self._waiting, []
        self._last_write = time.monotonic()
        read = iter(numbers([value for *_, line in waiting for value in line.values() if isinstance(value, Tensor)]))
        entries: list[MetricEntry] = []
        try:
            for seconds, epoch, step, line in waiting:
                values = {}
                for name, value in line.items():
                    number = next(read) if isinstance(value, Tensor) else value
                    if math.isfinite(number):
                        values[name] = number
                    # In half precision a step whose gradients overflow is left out, and the scale of the loss falls.
                    elif name != "train/gradient_norm" or not self._loop.scales_loss:
                        if name not in self._warned:  # or there is a warning with every line
                            warn_of_nonfinite(name, number, step)
                        self._warned.add(name)
                entries.append(MetricEntry(timestamp(seconds), epoch, step, values))
        finally:
            self._logger.append(entries)
