"""What trackers with a server share: each shows the run from a process of its own, so that training waits for none."""

import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import reprise
from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory

logger = logging.getLogger("reprise")


class RemoteTracker(Callback):
    """Starts `reprise.trackers.destinations.worker`, which reads `metrics.jsonl`, and announces the end of the run.

    Whatever happens to that process or to the server, the run goes on. Its end waits `seconds_at_end` at most, and
    `seconds_when_stopped` after a signal: who sent it kills soon.
    """

    package: ClassVar[str]
    """What has to be installed: the name of a module, and of the extra that brings it."""
    destination: ClassVar[str]
    """Dotted path of a `reprise.trackers.destinations.Destination`."""

    def __init__(self, seconds_at_end: float, seconds_when_stopped: float, **arguments: Any) -> None:
        """`arguments`: those of the destination, as JSON holds them.

        Raises:
            InputError: if the package is not installed.
        """
        if importlib.util.find_spec(self.package) is None:
            raise InputError(
                f"tracker: {self.package} is not installed; install the extra `{self.package}`: "
                f"uv sync --extra {self.package}, or pip install -e '.[{self.package}]'"
            )
        self._seconds_at_end = seconds_at_end
        self._seconds_when_stopped = seconds_when_stopped
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._is_told = False

    def folder(self, directory: RunDirectory) -> Path:
        """Return where what belongs to this tracker is kept."""
        raise NotImplementedError

    def on_run_start(self, run: StartedRun) -> None:
        self._start(RunDirectory(run.directory.path), self._arguments)

    def on_train_start(self, run: Run) -> None:
        self._say("go")  # the lines after the last checkpoint were cut off by now

    def on_close(self, run: StartedRun, outcome: Outcome) -> None:
        if self._is_told or outcome == "completed":
            seconds = self._seconds_when_stopped if outcome == "interrupted" else self._seconds_at_end
            if not self._end(outcome, seconds):
                logger.warning(
                    "%s: not everything was sent; later, python scripts/sync.py %s sends the rest",
                    self.package,
                    run.directory.path,
                )
        else:
            self._kill()  # nothing was trained, and nothing is to be shown

    def sync(self, directory: RunDirectory, outcome: Outcome, seconds: float) -> bool:
        """Send what is missing of a run that nobody works on; return whether everything has arrived in time."""
        self._start(directory, self._arguments | self.sync_arguments)
        return self._end(outcome, seconds)

    @property
    def sync_arguments(self) -> dict[str, Any]:
        """Arguments of the destination that are others when a run is sent later."""
        return {}

    def _start(self, directory: RunDirectory, arguments: dict[str, Any]) -> None:
        settings = {
            "destination": self.destination,
            "arguments": arguments,
            "run": str(directory.path.resolve()),
            "folder": str(self.folder(directory).resolve()),
            "pid": os.getpid(),
        }
        source = str(Path(reprise.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        self._is_told = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "reprise.trackers.destinations.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the training process, which says how it ended
                text=True,
            )
        except OSError as error:
            logger.warning("%s: cannot be started: %s; the run goes on without it", self.package, error)
            return
        self._reader = Thread(target=self._pass_on, args=(self._process,), name=self.package, daemon=True)
        self._reader.start()
        self._say(json.dumps(settings))

    def _say(self, order: str) -> None:
        self._is_told = order == "go" or self._is_told
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{order}\n")
                self._process.stdin.flush()

    def _end(self, outcome: Outcome, seconds: float) -> bool:
        if not self._is_told:
            self._say("go")
        self._say(f"end {outcome}")
        if self._process is None:
            return False
        try:
            return self._wait(seconds) == 0
        finally:
            self._kill()

    def _wait(self, seconds: float) -> int | None:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    assert pipe is not None
                    pipe.close()
            self._process = None

    def _pass_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            logger.log(logging.getLevelNamesMapping()[said["level"].upper()], "%s: %s", self.package, said["message"])
