"""The protocol of trackers, and what feeds one: new lines of `metrics.jsonl` go to it every few seconds."""

import abc
import contextlib
import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config.secrets import hidden, without_users
from reprise.errors import PermanentTrackerError, TemporaryTrackerError
from reprise.files.json_file import read_object
from reprise.files.json_values import flattened
from reprise.runs.metrics_log import MetricEntry, last_metrics, read_metrics_from
from reprise.runs.run_directory import RunDirectory

_SECONDS_BETWEEN_SENDINGS = 2.0
_SECONDS_BETWEEN_TRIALS = (2.0, 5.0, 15.0, 60.0)
_MAX_CHARACTERS = 300
"""Of a message of a tracker's library in the log."""

logger = logging.getLogger("reprise")


class Tracker(Callback, abc.ABC):
    """Shows one run in one place, and is fed by the training process; for servers there is `ServerTracker`.

    `open`, `send` and `finish` may raise `PermanentTrackerError`: the tracker is left alone until the next attempt.
    After any other exception they are called again later. Whatever they raise, the run goes on.
    """

    is_live = True
    """Whether lines are sent while training goes on, rather than all of them at the end of the attempt."""

    max_lines_at_once: ClassVar[int] = 100_000

    @abc.abstractmethod
    def open(self, directory: RunDirectory) -> int:
        """Find the run there, or create it with its parameters; return the last step that is shown, -1 without one.

        Lines up to this step are not sent again, since repeating a step gives the same values.
        """

    @abc.abstractmethod
    def send(self, entries: Sequence[MetricEntry]) -> None:
        """Show these lines, and return when they are safe; some may be there already if the call before failed."""

    @abc.abstractmethod
    def finish(self, outcome: Outcome, results: MetricEntry | None, files: Sequence[Path]) -> None:
        """Show how the run ended, and return when that is safe. A run that ended may be resumed, and ends again.

        `results` and `files` are the figures of the test split and the files to keep with a completed run.
        """

    _has_started = False

    def on_train_start(self, run: Run) -> None:
        self._has_started = True
        self.start(RunDirectory(run.directory.path))

    def on_commit(self, run: Run) -> None:
        self._feed.send_if_due()

    def on_close(self, run: StartedRun, outcome: Outcome) -> None:
        if self._has_started and not self.end(outcome):
            self.log(
                logging.WARNING, f"not everything was sent; python scripts/sync.py {run.directory.path} sends the rest"
            )

    def start(self, directory: RunDirectory) -> None:
        """Send the lines that an earlier attempt has not sent; those behind its checkpoint are cut off by now."""
        self._feed = Feed(self, directory, self.log)
        self._feed.send_if_due()

    def end(self, outcome: Outcome) -> bool:
        """Send the rest and the `outcome`; return whether everything has arrived."""
        return self._feed.send(outcome)

    def log(self, level: int, message: str) -> None:
        logger.log(level, "%s: %s", type(self).__name__, message)

    def sync(self, directory: RunDirectory, outcome: Outcome, seconds: float) -> bool:
        """Send what is missing of a run that nobody trains; return whether all has arrived, after `seconds` at most."""
        self.start(directory)
        return self.end(outcome)


class Feed:
    """Sends a tracker the lines of a run that it does not have, and reports what goes wrong there."""

    def __init__(self, tracker: Tracker, directory: RunDirectory, report: Callable[[int, str], None]) -> None:
        self._tracker = tracker
        self._directory = directory
        self._report = report
        self._last_step = -1
        self._offset = 0
        self._num_failures = 0
        self._next_time = 0.0
        self.is_open = False
        self.has_failed = False

    def send_if_due(self) -> None:
        if self._tracker.is_live and not self.has_failed and time.monotonic() > self._next_time:
            self.send()
            pauses = _SECONDS_BETWEEN_TRIALS[: self._num_failures] or (_SECONDS_BETWEEN_SENDINGS,)
            self._next_time = time.monotonic() + pauses[-1]

    def send(self, outcome: Outcome | None = None) -> bool:
        """Send the new lines, and at the end of an attempt its `outcome`; return whether everything has arrived."""
        if self.has_failed:
            return False
        try:
            self._send_lines()
            if outcome is not None:
                self._finish(outcome)
        except PermanentTrackerError as error:
            self.has_failed = True
            self._warn(str(error), "the run goes on without it")
            return False
        except Exception as error:
            self._num_failures += 1
            if self._num_failures == 1:
                name = "" if isinstance(error, TemporaryTrackerError) else f"{type(error).__name__}: "
                self._warn(f"{name}{error}", "" if outcome else "the run goes on, and this is tried again")
            return False
        if self._num_failures:
            self._num_failures = 0
            self._report(logging.INFO, "answers again, and has everything up to here")
        return True

    def _send_lines(self) -> None:
        if not self.is_open:
            self._last_step = self._tracker.open(self._directory)
            self.is_open = True
        entries, offset = read_metrics_from(self._directory.metrics_log, self._offset)
        entries = [entry for entry in entries if entry.step > self._last_step]
        num = self._tracker.max_lines_at_once
        for start in range(0, len(entries), num):
            part = entries[start : start + num]
            self._tracker.send(part)
            self._last_step = part[-1].step
        self._offset = offset

    def _finish(self, outcome: Outcome) -> None:
        run, results, files = self._directory, None, []
        if outcome == "completed":
            last, found = last_metrics(run.metrics_log), read_object(run.metrics)
            if last and found:  # the time of the last line, so that sending it again gives the same
                results = MetricEntry(last.timestamp, found["epoch"], found["step"], found["metrics"])
            texts = (run.model_card, run.config, run.metrics, run.predictions)
            files = [*(path for path in texts if path.is_file()), *run.plots]
        self._tracker.finish(outcome, results, files)

    def _warn(self, message: str, consequence: str) -> None:
        message = without_users(" ".join(message.split())).rstrip(".")
        if len(message) > _MAX_CHARACTERS:
            message = f"{message[:_MAX_CHARACTERS]}…"
        self._report(logging.WARNING, f"{message}; {consequence}" if consequence else message)


def parameters(directory: RunDirectory) -> dict[str, Any]:
    """Return every value of the run's config under its dotted key, without anything secret."""
    return flattened(hidden(read_object(directory.config)))


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait until no other process holds the file `path`, and hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
