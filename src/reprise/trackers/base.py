"""What trackers in files share: each shows the lines of `metrics.jsonl`, which remains the truth, in another way.

Those with a server are `remote_tracking`.
"""

import abc
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.files.json_values import number_at
from reprise.runs.metrics_log import MetricEntry, last_metrics, read_metrics_from

_SECONDS_BETWEEN_SENDINGS = 2.0

logger = logging.getLogger("reprise")


class Tracker(Callback, abc.ABC):
    """Sends new lines every few seconds and at the end of a run, also those that an earlier attempt did not.

    A tracker that fails is left alone from then on, and the run goes on.
    """

    @abc.abstractmethod
    def folder(self, run: StartedRun) -> Path:
        """Return the directory of this tracker; it keeps there how much of `metrics.jsonl` was sent."""

    @abc.abstractmethod
    def send(self, entries: Sequence[MetricEntry]) -> None:
        """Show these lines, and return when they are safe.

        What an earlier attempt showed of the step of the first one, and of those after it, is to be replaced.
        """

    @abc.abstractmethod
    def send_results(self, run: StartedRun, last: MetricEntry) -> None:
        """Show what the run came to, with its `last` line, and return when it is safe."""

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing more will be sent."""

    def on_run_start(self, run: StartedRun) -> None:
        self._log = run.directory.metrics_log
        self.record_path = self.folder(run) / "sent.json"
        self._length: int | None = None
        """Length of what was sent, in bytes; None until it is known how much of that is still there."""
        self._last_sending = time.monotonic()
        self.failed = False

    def on_train_start(self, run: Run) -> None:
        self._find_length()  # the lines after the checkpoint were cut off by now, and none is written yet

    def on_commit(self, run: Run) -> None:
        if time.monotonic() - self._last_sending > _SECONDS_BETWEEN_SENDINGS:
            self._send_new()

    def on_close(self, run: StartedRun, outcome: Outcome) -> None:
        try:
            self._send_new()
            if outcome == "completed":
                self._finish(run)
        finally:
            self.close()

    def _send_new(self) -> None:
        self._last_sending = time.monotonic()
        if self.failed:
            return
        entries, length = read_metrics_from(self._log, self._find_length())
        if entries:
            self._try(lambda: self.send(entries))
            self._length = length
            self._note(length, is_finished=False)

    def _finish(self, run: StartedRun) -> None:
        last = last_metrics(self._log)
        if not self.failed and last is not None and not self._read_record()["finished"]:
            self._try(lambda: self.send_results(run, last))
            self._note(self._find_length(), is_finished=True)

    def _try(self, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:
            self.failed = True
            logger.warning("%s: %s; the run goes on without it", type(self).__name__, error)

    def _note(self, length: int, is_finished: bool) -> None:
        if not self.failed:
            write_json(self.record_path, {"length": length, "finished": is_finished})

    def _read_record(self) -> dict[str, Any]:
        record = read_object(self.record_path)
        return {"length": int(number_at(record, "length") or 0), "finished": record.get("finished") is True}

    def _find_length(self) -> int:
        if self._length is None:
            size = self._log.stat().st_size if self._log.exists() else 0
            self._length = min(self._read_record()["length"], size)
        return self._length
