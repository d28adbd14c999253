"""Ends training when the monitored metric has stopped improving."""

from collections.abc import Mapping
from typing import Any

from reprise.callbacks import Callback, Run
from reprise.config import PositiveInt


class EarlyStopping(Callback):
    """Stops after `patience` evaluations in a row that did not improve on the best one."""

    on_every_process = True

    def __init__(self, patience: PositiveInt = 5) -> None:
        self._patience = patience
        self._num_without_improvement = 0
        self._step_of_best: int | None = None

    def on_train_start(self, run: Run) -> None:
        best = run.loop.best
        if self._step_of_best is not None and (best is None or best.step != self._step_of_best):
            self._num_without_improvement = 0  # the monitor has changed

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        loop = run.loop
        assert loop.best is not None
        self._num_without_improvement = 0 if loop.best.step == loop.step else self._num_without_improvement + 1
        self._step_of_best = loop.best.step
        if self._num_without_improvement >= self._patience:
            loop.stop(f"{loop.monitor} did not improve in {self._patience} evaluations")

    def state_dict(self) -> dict[str, Any]:
        return {"num_without_improvement": self._num_without_improvement, "step_of_best": self._step_of_best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_without_improvement = state["num_without_improvement"]
        self._step_of_best = state.get("step_of_best")  # older ones do not know
