"""The names of all files of a run; creates, locks, finds and opens runs."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from reprise.config.names import name_problem, run_name_problem
from reprise.errors import ConfigError, InputError, Problem
from reprise.files.json_file import read_object
from reprise.files.json_values import mappings_at
from reprise.files.lock import locked

Status = Literal["running", "interrupted", "failed", "completed"]


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


def create_experiment_dir(base_dir: str | Path, experiment_name: str, run_id: str | None = None) -> Path:
    """Create `base_dir`/experiments/`experiment_name`/`run_id` with its folders and return it.

    Without a `run_id` the run is named after the second of its start (local time) and a random suffix; no two
    processes ever get the same directory.

    Raises:
        ConfigError: if a name could be hidden or lead elsewhere.
        FileExistsError: if there is such a run already.
    """
    experiment = find_run(base_dir, experiment_name, "any" if run_id is None else run_id).parent
    path = make_named(experiment, run_id)
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


def make_named(parent: Path, name: str | None) -> Path:
    """Make the directory `name`, or without a name one called by the second (local time) and a random suffix.

    Raises:
        FileExistsError: if there is one of this name.
    """
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
