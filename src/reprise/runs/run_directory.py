"""The only place that knows file names under `outputs/`; creates, locks, finds and opens runs."""

import contextlib
import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from reprise.config.schema import SWEEPS, name_problem, run_name_problem
from reprise.errors import ConfigError, InputError, Problem, RunInUse
from reprise.files.atomic_file import write_json
from reprise.files.differences import Difference
from reprise.files.json_file import read_object
from reprise.files.json_values import mappings_at
from reprise.files.lock import locked

__all__ = ["RunDirectory", "RunInUse", "SweepDirectory", "create_experiment_dir", "find_run", "open_run"]

Status = Literal["running", "interrupted", "failed", "completed"]

PRUNED = "pruned"
"""What the reason begins with why a run is complete that a search ended early."""


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.provenance = self.path / "provenance.json"
        self.code_patch = self.path / "code.patch"
        self.status = self.path / "status.json"
        self.lock = self.path / ".lock"
        self.checkpoints = self.path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.pt"
        self.last_checkpoint = self.checkpoints / "last.pt"
        self.logs = self.path / "logs"
        self.train_log = self.logs / "train.log"
        self.metrics_log = self.logs / "metrics.jsonl"
        self.tensorboard = self.logs / "tensorboard"
        self.profile = self.logs / "profile"
        self.wandb = self.logs / "wandb"
        self.mlflow = self.logs / "mlflow"
        self.results = self.path / "results"
        self.predictions = self.results / "predictions.json"
        self.metrics = self.results / "metrics.json"
        self.learning_curves = self.results / "learning_curves.svg"
        self.confusion_matrix = self.results / "confusion_matrix.svg"
        self.reliability = self.results / "reliability.svg"
        self.model_card = self.path / "model_card.md"
        self.card_template = self.path / "model_card.md.jinja"
        self.export = self.path / "export"
        self.hydra = self.path / ".hydra"

    def epoch_checkpoint(self, epoch: int) -> Path:
        return self.checkpoints / f"epoch_{epoch:03d}.pt"

    def epoch_checkpoints(self) -> list[tuple[int, Path]]:
        """Return the periodic checkpoints that are there with their epochs, the oldest first."""
        paths = self.checkpoints.glob("epoch_*.pt")
        return sorted((int(number), path) for path in paths if (number := path.stem[len("epoch_") :]).isdecimal())

    def replaced_best_checkpoint(self, step: int) -> Path:
        """Return where the best checkpoint, of this optimizer step, is kept when another one takes its place."""
        return self.checkpoints / f"best_step_{step:06d}.pt"

    def checkpoint(self, name: str) -> Path:
        """Return the checkpoint of this name: `best`, `last`, or as the file is called.

        Raises:
            InputError: if there is none.
        """
        path = self.checkpoints / f"{name.removesuffix('.pt')}.pt"
        if path.parent != self.checkpoints or not path.is_file():
            there = ", ".join(sorted(p.stem for p in self.checkpoints.glob("*.pt"))) or "none"
            raise InputError(f"{self.path}: there is no checkpoint {name!r}; there are: {there}")
        return path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def plots(self) -> list[Path]:
        """Return the plots that are there."""
        paths = (self.learning_curves, self.confusion_matrix, self.reliability)
        return [path for path in paths if path.is_file()]

    def discard(self) -> None:
        """Remove the run, and the folders above it that hold nothing else."""
        shutil.rmtree(self.path)
        with contextlib.suppress(OSError):  # not empty
            for folder in list(self.path.parents)[:3]:
                folder.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this run against other processes, also of other machines; the lock ends when the process does.

        Raises:
            RunInUse: if another process holds it.
        """
        with locked(self.lock):
            yield

    def refuse_links_out(self) -> None:
        """Keep a run that came from somebody else from having files read or written elsewhere.

        W&B's client links its own logs, which lie in the user's cache, and replaces those links.

        Raises:
            InputError: if a symbolic link in this directory leads out of it.
        """
        root = os.path.realpath(self.path)
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                is_log_of_client = name.startswith("debug") and "/logs/wandb/wandb/" in path.removeprefix(root)
                if is_log_of_client or not os.path.islink(path):
                    continue
                if os.path.commonpath([root, os.path.realpath(path)]) != root:
                    raise InputError(
                        f"{path} is a link to {os.readlink(path)}, out of the run directory; put what it leads to in "
                        "its place, or remove it"
                    )

    def remove_leftovers(self) -> None:
        """Remove what a killed process was still writing; to be called by who holds the lock."""
        for path in self.path.rglob(".*.tmp"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def read_status(self) -> dict[str, Any]:
        """Return the content of `status.json`, empty if there is none."""
        status = read_object(self.status)
        attempts = status.get("attempts", [])
        if not isinstance(attempts, list) or not all(map(_is_attempt, attempts)):
            raise InputError(f"{self.status}: not the record of a run: `attempts` is not laid out as a run lays it out")
        return status

    def begin_attempt(self, changes: Sequence[Difference] = (), drift: Sequence[Difference] = ()) -> None:
        """Record that this process works on the run from now on.

        `changes`: keys of the config that are others than before. `drift`: facts about code and machine that are others
        than those the run was started with.
        """
        attempts = self.read_status().get("attempts", [])
        for attempt in attempts:
            if attempt["ended"] is None:
                attempt.update(ended="unknown", status="interrupted", reason="the process did not end by itself")
        attempt = {
            "started": _now(),
            "ended": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "changes": [{"key": change.key, "from": change.first, "to": change.second} for change in changes],
            "drift": [{"fact": fact.key, "recorded": fact.first, "now": fact.second} for fact in drift],
            "from_step": 0,
            "to_step": None,
            "status": "running",
            "reason": None,
        }
        self._write_status("running", None, [*attempts, attempt])

    def resume_attempt_from(self, step: int) -> None:
        """Record the step from which this attempt carries on."""
        status = self.read_status()
        status["attempts"][-1]["from_step"] = step
        self._write_status("running", None, status["attempts"])

    def end_attempt(self, status: Status, reason: str, step: int | None) -> None:
        """Record how and why the attempt ended; `step` counts optimizer steps.

        Raises:
            FileNotFoundError: if the record is gone.
        """
        attempts = self.read_status().get("attempts")
        if not attempts:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.status))
        attempts[-1].update(ended=_now(), to_step=step, status=status, reason=reason)
        self._write_status(status, reason, attempts)

    def _write_status(self, status: Status, reason: str | None, attempts: list[dict[str, Any]]) -> None:
        write_json(self.status, {"status": status, "reason": reason, "attempts": attempts})


def create_experiment_dir(base_dir: str | Path, experiment_name: str, run_id: str | None = None) -> Path:
    """Create `base_dir`/experiments/`experiment_name`/`run_id` with its folders and return it.

    Without a `run_id` the run is named after the second of its start (local time) and a random suffix; no two
    processes ever get the same directory.

    Raises:
        ConfigError: if a name could be hidden or lead elsewhere.
        FileExistsError: if there is such a run already.
    """
    experiment = find_run(base_dir, experiment_name, "any" if run_id is None else run_id).parent
    path = _make(experiment, run_id)
    run = RunDirectory(path)
    for folder in (run.checkpoints, run.logs, run.results):
        folder.mkdir()
    return path


def find_run(base_dir: str | Path, experiment_name: str, run_id: str) -> Path:
    """Return where the run of these names lies, or would lie."""
    found = {"experiment_name": name_problem(experiment_name), "run_id": run_name_problem(run_id)}
    problems = [Problem(key, message) for key, message in found.items() if message]
    if problems:
        raise ConfigError(problems)
    return Path(base_dir) / "experiments" / experiment_name / run_id


class SweepDirectory:
    """The files of one sweep; its runs lie beside those that were started singly."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.definition = self.path / "sweep.json"
        self.records = self.path / "jobs"
        self.submitit = self.path / "submitit"
        self.study = self.path / "study.db"
        self.summary = self.path / "summary.json"
        self.summary_csv = self.path / "summary.csv"
        self.summary_markdown = self.path / "summary.md"
        self.summary_latex = self.path / "summary.tex"
        self.summary_plot = self.path / "summary.svg"

    @property
    def sweep_id(self) -> str:
        return self.path.name

    @property
    def experiment_name(self) -> str:
        return self.path.parent.parent.name

    def remove_leftovers(self) -> None:
        """Remove what a killed process was still writing; another one may be writing now, in far less than a minute."""
        for folder in (self.path, self.records):
            for path in folder.glob(".*.tmp"):
                if time.time() - path.stat().st_mtime > 60:
                    path.unlink(missing_ok=True)

    def record(self, run_id: str) -> Path:
        """Return where it is recorded how the job of this run ended."""
        return self.records / f"{run_id}.json"

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.path.parent.parent / run_id)


def sweep_of(run: RunDirectory, sweep_id: str | None) -> SweepDirectory | None:
    """Return where the sweep lies, or would lie, that a run belongs to; None if it belongs to none."""
    return None if sweep_id is None else SweepDirectory(run.path.parent / SWEEPS / sweep_id)


def create_or_open_sweep(base_dir: str | Path, experiment_name: str, sweep_id: str | None) -> SweepDirectory:
    """Return the sweep of these names, made if there is none; without a `sweep_id` it gets a name like that of a run.

    Raises:
        ConfigError: if a name could be hidden or lead elsewhere.
    """
    if sweep_id is not None and (message := name_problem(sweep_id)):
        raise ConfigError([Problem("sweep_id", message)])
    sweeps = find_run(base_dir, experiment_name, "any").parent / SWEEPS
    try:
        sweep = SweepDirectory(_make(sweeps, sweep_id))
    except FileExistsError:
        assert sweep_id is not None
        sweep = SweepDirectory(sweeps / sweep_id)
    sweep.records.mkdir(exist_ok=True)
    return sweep


def open_run(path: str | Path) -> RunDirectory:
    """Return the run in the directory `path`.

    Raises:
        InputError: if there is no run, or a link in it leads out of it.
    """
    run = RunDirectory(path)
    if not run.config.is_file():
        raise InputError(f"{path} is not the directory of a run: it has no config.json")
    run.refuse_links_out()
    return run


def _is_attempt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= {"started", "ended", "host", "pid"}
        and isinstance(value.get("from_step"), int)
        and all({"key", "from", "to"} <= change.keys() for change in mappings_at(value, "changes"))
        and all({"fact", "recorded", "now"} <= fact.keys() for fact in mappings_at(value, "drift"))
        and all(isinstance(value.get(name), list) for name in ("changes", "drift"))
        and all(len(mappings_at(value, name)) == len(value[name]) for name in ("changes", "drift"))
    )


def _make(parent: Path, name: str | None) -> Path:
    """Make a directory with this name, or one of its own: the second (local time) and a random suffix."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        path = parent / (name or f"{datetime.now():%Y%m%d_%H%M%S}_{secrets.token_hex(2)}")
        try:
            path.mkdir()
        except FileExistsError:
            if name is None:
                continue
            raise
        return path


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
