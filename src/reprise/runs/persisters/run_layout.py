"""Lays out the run directory: Hydra's record and the config first, and the log from then on."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config.secrets import hidden_in_text
from reprise.files.atomic_file import write_json, write_text
from reprise.runs.run_directory import RunDirectory


class RunLayout(Callback):
    """Writes what was asked for and what was found before anything is trained; what is there already stays."""

    def on_run_start(self, run: StartedRun) -> None:
        directory = RunDirectory(run.directory.path)
        for folder in (directory.checkpoints, directory.logs, directory.results, directory.hydra):
            folder.mkdir(exist_ok=True)
        for name, text in run.record.items():
            if not (directory.hydra / name).exists():
                write_text(directory.hydra / name, text)
        self._handler = _LogFile(directory.train_log)
        self._handler.setFormatter(_Formatter())
        # Last, since a directory with a config is a run. One that is there may turn out not to be resumed so.
        if not directory.config.exists():
            write_json(directory.config, dict(run.config))
            self._handler.begin()
        logging.getLogger().addHandler(self._handler)

    def on_restored(self, run: Run) -> None:
        self._handler.begin()

    def on_close(self, run: StartedRun, outcome: Outcome) -> None:
        logging.getLogger().removeHandler(self._handler)
        if outcome != "refused":
            self._handler.begin()
        self._handler.close()


class _LogFile(logging.FileHandler):
    """Keeps what is logged until it may begin to write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._waiting: list[logging.LogRecord] | None = []

    def begin(self) -> None:
        waiting, self._waiting = self._waiting, None
        if self.stream is None:
            self.stream = self._open()
        for record in waiting or ():
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting is None:
            super().emit(record)
        else:
            self._waiting.append(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Print no traceback for every line that a full disk does not take: what fails for it says so."""


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return hidden_in_text(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
