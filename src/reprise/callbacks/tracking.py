"""What trackers share: each shows the lines of `metrics.jsonl`, which remains the truth, somewhere else."""

import abc
import json
import time
from collections.abc import Sequence
from pathlib import Path

from reprise.atomic_file import write_json
from reprise.callbacks import Callback, Outcome, Run
from reprise.metrics import MetricEntry, read_metrics_from

_SECONDS_BETWEEN_SENDINGS = 2.0


class Tracker(Callback, abc.ABC):
    """Sends new lines every few seconds and at the end of a run, also those that an earlier attempt did not."""

    @abc.abstractmethod
    def folder(self, run: Run) -> Path:
        """Return the directory of this tracker; it keeps there how much of `metrics.jsonl` was sent."""

    @abc.abstractmethod
    def send(self, entries: Sequence[MetricEntry]) -> None:
        """Show these lines, and return when they are safe.

        What an earlier attempt showed of the step of the first one, and of those after it, is to be replaced.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing more will be sent."""

    def on_run_start(self, run: Run) -> None:
        self._log = run.directory.metrics_log
        self._record = self.folder(run) / "sent.json"
        self._length: int | None = None
        """Length of what was sent, in bytes; None until it is known how much of that is still there."""
        self._last_sending = time.monotonic()

    def on_step_end(self, run: Run) -> None:
        self._find_length()  # lines behind the checkpoint were cut off by now, and none is written before the commit

    def on_commit(self, run: Run) -> None:
        if time.monotonic() - self._last_sending > _SECONDS_BETWEEN_SENDINGS:
            self._send_new()

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        try:
            self._send_new()
        finally:
            self.close()

    def _send_new(self) -> None:
        self._last_sending = time.monotonic()
        if not self._log.exists():
            return
        entries, length = read_metrics_from(self._log, self._find_length())
        if entries:
            self.send(entries)
            self._length = length
            write_json(self._record, {"length": length})

    def _find_length(self) -> int:
        if self._length is None:
            sent = json.loads(self._record.read_text())["length"] if self._record.exists() else 0
            self._length = min(sent, self._log.stat().st_size)
        return self._length
