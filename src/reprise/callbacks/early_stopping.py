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

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        loop = run.loop
        assert loop.best is not None
        self._num_without_improvement = 0 if loop.best.step == loop.step else self._num_without_improvement + 1
        if self._num_without_improvement >= self._patience:
            loop.stop(f"{loop.monitor} did not improve in {self._patience} evaluations")

    def state_dict(self) -> dict[str, Any]:
        return {"num_without_improvement": self._num_without_improvement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_without_improvement = state["num_without_improvement"]
