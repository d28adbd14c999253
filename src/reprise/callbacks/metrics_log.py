"""Writes `metrics.jsonl`: one line for each step that has something to say."""

import math
from typing import Any

from reprise.callbacks import Callback, Outcome, Run
from reprise.config import PositiveInt
from reprise.loop import finite
from reprise.metrics import MetricsLogger


class MetricsLog(Callback):
    """Every evaluation is a line; `every_steps` optimizer steps there is one with the metrics of that step as well.

    `train/loss` is the mean over all items since the evaluation before; `train/step_loss` is that of one step.
    """

    def __init__(self, every_steps: PositiveInt | None = 10) -> None:
        self._every_steps = every_steps
        self._written_step = -1

    def on_run_start(self, run: Run) -> None:
        self._run = run
        self._logger = MetricsLogger(run.directory.metrics_log)
        if not run.directory.last_checkpoint.exists():
            self._logger.truncate(0)  # what an attempt wrote that left no checkpoint will be written again

    def on_step_end(self, run: Run) -> None:
        loop = run.loop
        if self._every_steps is None or loop.step % self._every_steps:
            return
        assert loop.loss is not None
        loop.log({"train/step_loss": finite(loop.loss, "training loss", loop.step)})
        # In half precision a step whose gradients overflow is left out, and the scale of the loss falls: no failure.
        if loop.gradient_norm is not None and not (loop.scales_loss and not math.isfinite(loop.gradient_norm)):
            loop.log({"train/gradient_norm": finite(loop.gradient_norm, "gradient norm", loop.step)})
        loop.log({"train/learning_rate": float(loop.scheduler.get_last_lr()[0])})

    def on_commit(self, run: Run) -> None:
        self._write()

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        self._logger.close()

    def state_dict(self) -> dict[str, Any]:
        # Whoever persists the state may be called first: the line of this step belongs to it.
        self._write()
        return {"length": self._logger.sync()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._logger.truncate(state["length"])

    def _write(self) -> None:
        loop = self._run.loop
        if loop.logged and self._written_step != loop.step:
            self._logger.log(loop.epoch, loop.step, loop.logged)
            self._written_step = loop.step
