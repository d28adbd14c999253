"""Shows how the run is doing: a live view on a terminal, plain lines elsewhere. Both read, neither changes, the run."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config import PositiveFloat

logger = logging.getLogger("reprise")


class Progress(Callback):
    """A line for every evaluation, and one every `seconds` between them; `live` shows bars instead on a terminal."""

    def __init__(self, seconds: PositiveFloat = 10.0, live: bool = True) -> None:
        self._seconds = seconds
        self._live = live
        self._view: Any = None

    def on_run_start(self, run: StartedRun) -> None:
        if self._live and sys.stdout.isatty():
            from reprise.callbacks.live_view import LiveView  # rich takes a fifth of a second

            self._view = LiveView()

    def on_train_start(self, run: Run) -> None:
        self._first_step, self._shown = run.loop.step, time.monotonic()
        if self._view is not None:
            self._view.show_start(run.loop)

    def on_step_end(self, run: Run) -> None:
        now = time.monotonic()
        if run.loop.step == self._first_step + 1:
            self._started = now  # the first step takes longer than the others
        if self._view is not None:
            self._view.show_step(run.loop)
        elif now - self._shown >= self._seconds:
            self._shown = now
            logger.info("%s  %s left", position(run), self._time_left(run))

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._shown = time.monotonic()
        loop = run.loop
        assert loop.best is not None
        is_best = " (best so far)" if loop.best.step == loop.step else ""
        # One line has no room for all; metrics.jsonl has.
        shown = dict.fromkeys([*list(metrics)[:3], loop.monitor])
        scores = "  ".join(f"{name} {metrics[name]:.4g}" for name in shown)
        logger.info("%s  %s%s", position(run), scores, is_best)
        if self._view is not None:
            self._view.show_scores(loop, metrics)

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        if self._view is not None:
            self._view.close()
        if run.results is not None:
            scores = "  ".join(f"{name} {value:.4g}" for name, value in run.results["metrics"].items())
            logger.info("best checkpoint (epoch %d): %s", run.results["epoch"], scores)

    def _time_left(self, run: Run) -> str:
        num_steps = run.loop.step - self._first_step - 1
        if num_steps == 0:
            return "?"
        seconds = (time.monotonic() - self._started) / num_steps * (run.loop.total_steps - run.loop.step)
        return time.strftime("%H:%M:%S", time.gmtime(seconds))


def position(run: Run) -> str:
    """Return where the run stands, in words."""
    loop = run.loop
    return f"epoch {loop.epoch}/{loop.cadence.epoch_of(loop.total_steps)}  step {loop.step}/{loop.total_steps}"
