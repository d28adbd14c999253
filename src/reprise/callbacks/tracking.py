"""What trackers share: each shows the lines of `metrics.jsonl`, which remains the truth, somewhere else."""

import abc
import time
from collections.abc import Sequence
from typing import Any

from reprise.callbacks import Callback, Outcome, Run
from reprise.metrics import MetricEntry, read_metrics_from

_SECONDS_BETWEEN_SENDINGS = 2.0


class Tracker(Callback, abc.ABC):
    """Sends new lines every few seconds and at the end of a run. What a checkpoint covers is sent once."""

    def __init__(self) -> None:
        self._offset = 0
        """Length of what was sent of `metrics.jsonl`, in bytes."""

    @abc.abstractmethod
    def send(self, entries: Sequence[MetricEntry]) -> None:
        """Show these lines, and return when they are safe.

        After a restart they begin with the first line that was not covered by a checkpoint; what an earlier attempt
        showed of its step and those after it is to be replaced.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing more will be sent."""

    def on_run_start(self, run: Run) -> None:
        self._run = run
        self._last_sending = time.monotonic()

    def on_commit(self, run: Run) -> None:
        if time.monotonic() - self._last_sending > _SECONDS_BETWEEN_SENDINGS:
            self._send_new()

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        try:
            if run.directory.metrics_log.exists():
                self._send_new()
        finally:
            self.close()

    def state_dict(self) -> dict[str, Any]:
        return {"offset": self._offset}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._offset = state["offset"]

    def _send_new(self) -> None:
        self._last_sending = time.monotonic()
        entries, self._offset = read_metrics_from(self._run.directory.metrics_log, self._offset)
        if entries:
            self.send(entries)
