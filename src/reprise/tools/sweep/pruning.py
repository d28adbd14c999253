"""Ends a trial of a search when others did better at the same point."""

import logging
from collections.abc import Mapping
from typing import Any

from reprise.callbacks import Callback, Run, StartedRun
from reprise.runs.run_directory import RunDirectory
from reprise.runs.sweep_directory import PRUNED, sweep_of

logger = logging.getLogger(__name__)


class Pruning(Callback):
    """Reports each evaluation to the search, and ends the run if `pruner`, one of `optuna.pruners`, says so.

    Evaluations count from 1. Where there is no search, as in a repeat of the run, nothing is ended.
    """

    def __init__(self, pruner: Any) -> None:
        self._pruner = pruner
        self._num_evaluations = 0
        self._trial: Any = None

    def on_run_start(self, run: StartedRun) -> None:
        sweep = sweep_of(RunDirectory(run.directory.path), run.config["sweep_id"])
        if sweep is not None and sweep.study.exists():
            from reprise.tools.sweep.search import trial_of

            self._trial = trial_of(sweep, run.directory.run_id, self._pruner)
        if self._trial is None:
            logger.warning("no search asks for this run, so nothing ends it early: -m hydra/sweeper=optuna does")

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._num_evaluations += 1
        if self._trial is None:
            return
        (metric,) = self._trial.study.user_attrs["search"]["metrics"]
        if metric in metrics:  # or it was not finite
            self._trial.report(metrics[metric], self._num_evaluations)
        if not run.loop.finished and self._trial.should_prune():
            name = type(self._pruner).__name__
            run.loop.stop(f"{PRUNED} by the {name} after evaluation {self._num_evaluations}, step {run.loop.step}")

    def state_dict(self) -> dict[str, Any]:
        return {"num_evaluations": self._num_evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_evaluations = state["num_evaluations"]
