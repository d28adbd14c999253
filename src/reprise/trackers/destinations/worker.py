"""The process that shows one run in one place: `python -m reprise.trackers.destinations.worker`, started by a tracker.

Orders come on stdin, a line each: first a JSON object that says what to show where; `go`, when `metrics.jsonl` has no
lines that could be cut off; `end OUTCOME`, when the run has ended. If stdin ends without that, training was killed:
that is shown, and nothing more is sent, since the file may be cut off any time now. What a person should know goes to
stdout, a JSON object a line. Exits with 0 when everything was sent.
"""

import contextlib
import fcntl
import importlib
import json
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

from reprise.config.secrets import without_users
from reprise.errors import PermanentTrackerError, TemporaryTrackerError
from reprise.runs.metrics_log import MetricEntry, read_metrics_from, timestamp
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.destinations import Destination, Outcome, TrackedRun

_SECONDS_BETWEEN_SENDINGS = 2.0
_SECONDS_BETWEEN_TRIALS = (2.0, 5.0, 15.0, 60.0)
_MOST_LINES_AT_ONCE = 200
_SECONDS_AFTER_A_KILL = 10.0
_KILLED = "killed"


class Orders:
    """What the training process says; the last word is `killed` if it is gone."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._received = b""

    def wait(self, seconds: float | None = None) -> str | None:
        """Return the next order, None if there is none within `seconds`."""
        until = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._received:
            left = 1.0 if until is None else min(1.0, until - time.monotonic())
            if left <= 0:
                return None
            if select.select([0], [], [], left)[0]:
                part = os.read(0, 65536)
                if not part:
                    return _KILLED
                self._received += part
            elif os.getppid() != self._parent:  # a loader worker may hold stdin open for some seconds more
                return _KILLED
        order, _, self._received = self._received.partition(b"\n")
        return order.decode()


class Worker:
    """Sends what `metrics.jsonl` has and the destination has not, until it is told that the run has ended."""

    def __init__(self, destination: Destination, run: TrackedRun, report: "Report") -> None:
        self._destination = destination
        self._run = run
        self._report = report
        self._is_open = False
        self._last_step = -1
        self._last_time = timestamp(0)
        self._offset = 0
        self._num_failures = 0
        self._has_ended = False

    def follow(self, orders: Orders) -> bool:
        """Send lines as they come until the run ends, and say how it ended; return whether everything has arrived."""
        while True:
            if self._destination.is_live:
                self._try()
            pause = _SECONDS_BETWEEN_SENDINGS
            if self._num_failures:
                pause = _SECONDS_BETWEEN_TRIALS[min(self._num_failures, len(_SECONDS_BETWEEN_TRIALS)) - 1]
            order = orders.wait(pause)
            if order == _KILLED:
                return self._give_up()
            if order is not None:
                return self._finish(cast(Outcome, order.removeprefix("end ")))

    def _finish(self, outcome: Outcome) -> bool:
        self._has_ended = True
        if not self._try():
            return False
        files, results = (self._run.files, self._results()) if outcome == "completed" else ([], None)
        try:
            self._destination.finish(outcome, files, results)
        except TemporaryTrackerError as error:
            self._fail(error)
            return False
        return True

    def _give_up(self) -> bool:
        if self._is_open:
            threading.Timer(_SECONDS_AFTER_A_KILL, os._exit, [1]).start()
            with contextlib.suppress(TemporaryTrackerError):
                self._destination.finish("interrupted", [], None)
        return False

    def _results(self) -> MetricEntry | None:
        """Return the figures of the test split as a line; its time is that of the last one, so that it is always so."""
        directory = self._run.directory
        if not directory.metrics.is_file():
            return None
        results = json.loads(directory.metrics.read_text(encoding="utf-8"))
        return MetricEntry(self._last_time, results["epoch"], results["step"], results["metrics"])

    def _try(self) -> bool:
        try:
            if not self._is_open:
                self._last_step = self._destination.open(self._run)
                self._is_open = True
            lines, offset = read_metrics_from(self._run.directory.metrics_log, self._offset)
            self._last_time = lines[-1].timestamp if lines else self._last_time
            lines = [line for line in lines if line.step > self._last_step]
            for start in range(0, len(lines), _MOST_LINES_AT_ONCE):
                part = lines[start : start + _MOST_LINES_AT_ONCE]
                self._destination.send(part)
                self._last_step = part[-1].step
            self._offset = offset
        except TemporaryTrackerError as error:
            self._fail(error)
            return False
        if self._num_failures:
            self._report("info", "answers again, and has everything up to here")
            self._num_failures = 0
        return True

    def _fail(self, error: Exception) -> None:
        if self._num_failures == 0:
            consequence = "" if self._has_ended else "; the run goes on, and this is tried again"
            self._report("warning", str(error), consequence)
        self._num_failures += 1


class Report:
    """Tells the training process what a person should know."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)

    def __call__(self, level: str, message: str, consequence: str = "") -> None:
        message = without_users(" ".join(message.split()))
        line = json.dumps({"level": level, "message": f"{message.rstrip('.')}{consequence}"})
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, f"{line}\n".encode())


def main() -> NoReturn:
    report, orders = Report(), Orders()
    # What the clients of trackers print is not for the log of the run, and may hold what nobody should read.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.nice(10)  # training comes first
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they are for the training process, which says how it ended
    settings: dict[str, Any] = json.loads(orders.wait() or "{}")
    module, _, name = settings["destination"].rpartition(".")
    destination: Destination = getattr(importlib.import_module(module), name)(**settings["arguments"])
    folder = Path(settings["folder"])
    try:
        destination.prepare()
        if orders.wait() != "go":
            os._exit(1)  # the run was impossible
        directory = RunDirectory(settings["run"])
        config = json.loads(directory.config.read_text(encoding="utf-8"))
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder):
            is_done = Worker(destination, TrackedRun(directory, config, settings["pid"]), report).follow(orders)
    except PermanentTrackerError as error:
        report("warning", str(error), "; the run goes on without it")
        is_done = False
    except Exception as error:
        report("warning", f"{type(error).__name__}: {error}", "; the run goes on without it")
        is_done = False
    # Clients keep threads that may wait for a server without end.
    os._exit(0 if is_done else 1)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Wait until no other worker shows the run there, such as one whose training process was killed just now."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
