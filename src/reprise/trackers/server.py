"""Trackers with a server: each sends from a process of its own, so that training neither waits nor imports anything.

A thread would not do: the clients of servers hold the interpreter for seconds, draw from Python's global generator,
which could change weights, and hang at the exit of their process while the server is gone. A process can be killed.
"""

import abc
import contextlib
import importlib.util
import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO, ClassVar

from reprise.callbacks import Callback, Outcome
from reprise.errors import MissingExtra
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.base import Tracker


class ServerTracker(Tracker):
    """A tracker whose `open`, `send` and `finish` are called in `reprise.trackers.worker`; its attributes are pickled.

    The end of a run waits `seconds_at_end` at most, and `seconds_when_stopped` after a signal: schedulers kill soon.
    """

    package: ClassVar[str]
    """The module that has to be installed; the extra that brings it has the same name."""
    max_lines_at_once = 200
    _process: "subprocess.Popen[bytes] | None" = None

    def __init__(self, seconds_at_end: float, seconds_when_stopped: float) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise MissingExtra("tracker", self.package, self.package)
        self._seconds_at_end = seconds_at_end
        self._seconds_when_stopped = seconds_when_stopped

    @abc.abstractmethod
    def folder(self, directory: RunDirectory) -> Path:
        """Return where the files of this tracker are kept."""

    on_commit = Callback.on_commit  # the worker looks for new lines by itself

    def start(self, directory: RunDirectory) -> None:
        tracker_and_run = pickle.dumps((self, RunDirectory(directory.path.resolve())))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "reprise.trackers.worker"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the training process, which says how it ended
            )
        except OSError as error:
            self.log(logging.WARNING, f"cannot be started: {error}")
            return
        assert self._process.stdout is not None
        self._reader = Thread(target=self._log_messages, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self._write(tracker_and_run)

    def end(self, outcome: Outcome) -> bool:
        if (process := self._process) is None:
            return False
        self._write(f"{outcome}\n".encode())
        try:
            return process.wait(self._seconds_when_stopped if outcome == "interrupted" else self._seconds_at_end) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._reader.join()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def sync(self, directory: RunDirectory, outcome: Outcome, seconds: float) -> bool:
        self.is_live = False
        self._seconds_at_end = self._seconds_when_stopped = seconds
        return super().sync(directory, outcome, seconds)

    def _write(self, message: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(message)

    def _log_messages(self, messages: IO[bytes]) -> None:
        for line in messages:
            level, _, message = line.decode().strip().partition(" ")
            self.log(int(level), message)
