"""Runs, kills and compares: what the tests of the promises share.

A `Trial` is one run in a directory of its own. Its processes are forked, so that an attempt takes half a second and not
the three that importing torch takes, and each of them can be killed with SIGKILL at a named instant or after some time.
"""

import contextlib
import functools
import io
import itertools
import json
import multiprocessing
import os
import re
import signal
import stat
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tiny_runs import TINY, compose

import reprise.runs.persisters.metrics_writer
import reprise.runs.train
import reprise.trackers.base
import reprise.training.loading
import reprise.training.loop
from reprise.cli.resuming import resume
from reprise.config.composed import Composed
from reprise.errors import CheckpointError
from reprise.files.content_hash import content_hash
from reprise.metrics import ClassificationMetrics
from reprise.optimization.schedules import Schedule
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.provenance import read_provenance
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.training.loop import Loop
from reprise.training.step import OptimizerStep

# Everything that could go wrong on resume: dropout, augmentation, accumulation over a ragged end, a schedule,
# evaluations and checkpoints between and at the ends of epochs but not always at the same steps, early stopping, a best
# evaluation that is not the last. Two epochs of 6 steps; evaluated after 4, 6, 8 and 12; last.pt after 3, 6, 9 and 12.
EVERYTHING = (
    *TINY,
    "training.batch_size=17",
    "training.gradient_accumulation=2",
    "training.learning_rate=0.1",
    "training.warmup_steps=6",
    "training.checkpoint_every_steps=3",
    "training.checkpoint_every_epochs=1",
    "training.eval_every_steps=4",
    "training.log_every_steps=1",
    "callbacks.checkpoints.background=false",  # so that a kill comes at the same instant each time
    "callbacks=[default,early_stopping]",
    "num_threads=1",
)
_LIMIT = 600.0  # seconds; a compiler takes some of them
_CARD_SECTIONS = ("Training Data", "Evaluation Results")


def run_facts(path: Path) -> dict[str, Any]:
    """Return all that must be equal between two runs that are the same: states by hash, files as they are."""
    run = RunDirectory(path)
    provenance = json.loads(_text(run.provenance) or "{}")
    facts: dict[str, Any] = {
        "status": run.read_status().get("status"),
        "files": sorted(
            name
            for file in path.rglob("*")
            if (name := file.relative_to(path).as_posix()) != "code.patch" and run.tensorboard not in file.parents
        ),
        "metrics.jsonl": [_without_time(line) for line in (_text(run.metrics_log) or "").splitlines()],
        "predictions.json": _text(run.predictions),
        "metrics.json": _text(run.metrics),
        "plots": {plot.name: _text(plot) for plot in run.plots},
        "export": {file.name: content_hash(file.read_bytes()) for file in sorted(run.export.glob("*"))},
        "provenance.json: data": provenance.get("data"),
        "provenance.json: model": provenance.get("model"),
    }
    for section in re.split(r"^## ", _text(run.model_card) or "", flags=re.MULTILINE):
        if section.startswith(_CARD_SECTIONS):
            facts[f"model_card.md: {section.splitlines()[0]}"] = section
    for checkpoint in sorted(run.checkpoints.glob("*.pt")):
        try:
            state = read_checkpoint(checkpoint)
        except CheckpointError as error:
            state = {"damaged": type(error).__name__}
        for key, value in state.items():
            if key not in ("config", "sha256"):
                facts[f"{checkpoint.name}: {key}"] = content_hash(value)
    if run.tensorboard.exists():
        facts["tensorboard"] = scalars(run.tensorboard)
    return facts


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return the names of the facts in which two runs differ."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def weights(run: Path) -> str:
    """Return a hash of weights and optimizer state at the end of a run."""
    state = read_checkpoint(RunDirectory(run).last_checkpoint)
    return content_hash([state["model_state_dict"], state["optimizer_state_dict"]])


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) by name, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def torn_files(path: Path) -> list[str]:
    """Return the files of a run that stand under their final names and are not whole."""
    torn = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(re.fullmatch(r"\..*\.tmp", part) for part in file.parts):
            try:
                if file.suffix == ".pt":
                    read_checkpoint(file)
                elif file.suffix == ".json":
                    json.loads(file.read_text())
                elif file.suffix == ".safetensors":
                    from safetensors.torch import load_file

                    load_file(file)
                elif file.suffix == ".md":
                    assert file.read_text().endswith("\n")
            except Exception:
                torn.append(file.relative_to(path).as_posix())
    return torn


class Instant(NamedTuple):
    """A place in a run that is passed: of those with this name the one with this number, from 1."""

    name: str
    number: int


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Trial:
    """One run in `output_dir`. `prepare` is called in each of its processes first: it may take an ingredient out."""

    output_dir: Path
    overrides: tuple[str, ...] = EVERYTHING
    prepare: Callable[[], None] = nothing

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.output_dir / "experiments" / "base" / "run")

    @property
    def instants(self) -> list[Instant]:
        """Every instant of the last attempt that came to its end."""
        names = json.loads((self.output_dir / "instants.json").read_text())
        counts: dict[str, itertools.count[int]] = {}
        return [Instant(name, next(counts.setdefault(name, itertools.count(1)))) for name in names]

    def go(
        self,
        kill_at: Instant | None = None,
        *,
        kill_after: int | None = None,
        limit: float = _LIMIT,
        changes: Sequence[str] = (),
    ) -> int:
        """Start the run, or carry it on, in a process of its own; return its exit code, -9 if it was killed.

        It kills itself with SIGKILL when it comes to the instant `kill_at`, or to the one with the number `kill_after`
        whatever it is; after `limit` seconds it is killed from outside. `changes` are made with `resume`.
        """
        if (run := self.directory).tensorboard.exists():
            # TensorBoard reads files in the order of the second in their names, and a real attempt takes some.
            for file in run.tensorboard.glob("events.*"):
                *prefix, second, rest = file.name.split(".", 4)
                file.rename(file.with_name(".".join([*prefix, str(int(second) - 10), rest])))

        provenance = _warm_up()
        self.output_dir.mkdir(parents=True, exist_ok=True)
        composed = command(self.overrides, self.output_dir)

        def attempt() -> None:
            seen: list[str] = []
            left = None if kill_at is None else kill_at.number

            def reach(name: str, first: Callable[[], object] = nothing) -> None:
                nonlocal left
                seen.append(name)
                if kill_at is not None and left is not None and kill_at.name == name:
                    left -= 1
                if left == 0 or (kill_after is not None and len(seen) >= kill_after):  # two threads may count at once
                    first()
                    os.kill(os.getpid(), signal.SIGKILL)

            # What is known about code and machine takes a third of an attempt to find out, and is no matter here.
            reprise.runs.train.collect_provenance = lambda *_: provenance  # type: ignore[assignment]
            reprise.runs.train.code_patch = lambda: b"a patch"
            # A kill finds lines behind the last checkpoint then.
            reprise.runs.persisters.metrics_writer._SECONDS_BETWEEN_WRITES = -1.0
            reprise.trackers.base._SECONDS_BETWEEN_SENDINGS = -1.0
            self.prepare()
            _record_inputs(self.output_dir / "inputs.jsonl")
            _announce_instants(self.output_dir, reach)
            if changes:
                resume(self.directory.path, changes)
            else:
                train(composed)
            (self.output_dir / "instants.json").write_text(json.dumps(seen))

        return run_in_child(attempt, limit)

    def facts(self) -> dict[str, Any]:
        """Return the facts of the run, and for each microbatch everything that was ever trained on in its place."""
        inputs: dict[str, set[str]] = {}
        if (log := self.output_dir / "inputs.jsonl").exists():
            for line in log.read_text().splitlines():
                place, sample_ids, content = json.loads(line)
                inputs.setdefault(f"step {place[0]}, microbatch {place[1]}", set()).add(f"{sample_ids} {content}")
        return run_facts(self.directory.path) | {"inputs": inputs}


def run_in_child(function: Callable[[], object], limit: float = _LIMIT) -> int:
    """Call `function` in a forked process, and kill that with SIGKILL after `limit` seconds; return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads; none is used here
        process.start()
    process.join(limit)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def command(overrides: tuple[str, ...], output_dir: Path) -> Composed:
    """Return the config of a run with the name `run` in `output_dir`."""
    composed = _composed(overrides)
    return replace(composed, config=replace(composed.config, output_dir=str(output_dir), run_id="run"))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Composed:
    return compose(*overrides)


@functools.cache
def _warm_up() -> dict[str, Any]:
    """Import what runs import, so that each process has it already; return what provenance begins with."""
    import torch.utils.tensorboard  # noqa: F401
    import transformers.modeling_utils  # noqa: F401

    with tempfile.TemporaryDirectory() as scratch:
        run = RunDirectory(train(command(EVERYTHING, Path(scratch))))
        found = read_provenance(run.provenance)
    return {part: found[part] for part in ("created", "code", "command", "environment", "hardware")}


def _text(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return None


def _without_time(line: str) -> Any:
    try:
        return {key: value for key, value in json.loads(line).items() if key != "timestamp"}
    except json.JSONDecodeError:
        return line


def _record_inputs(log: Path) -> None:
    """Append to `log`, for each microbatch that is trained on: its place, the samples, and a hash of what is fed."""
    fetcher = reprise.training.loading.Fetcher
    fetch, train_step = fetcher.__getitem__, Loop._train_step
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    write = os.write

    def fetch_with_ids(self: Any, batch: tuple[int, np.ndarray[Any, Any]]) -> Any:
        fetched = fetch(self, batch)
        return fetched | {"sample_ids": torch.from_numpy(batch[1])} if self._purpose == "train" else fetched

    def recorded(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        for index, batch in enumerate(microbatches):
            sample_ids = batch.pop("sample_ids").tolist()
            line = json.dumps([[self.step, index], sample_ids, content_hash(batch)])
            write(descriptor, f"{line}\n".encode())
        train_step(self, microbatches)

    fetcher.__getitem__ = fetch_with_ids  # type: ignore[method-assign]
    Loop._train_step = recorded  # type: ignore[method-assign]


def _announce_instants(output_dir: Path, reach: Callable[..., None]) -> None:
    """Have `reach` called with a name before everything that matters, and inside every write below `output_dir`.

    Its second argument, where there is one, does half of what is about to be done.
    """
    process, step = os.getpid(), 0
    write, fdopen, train_step = os.write, os.fdopen, Loop._train_step

    def announce(what: str, first: Callable[[], object] = nothing) -> None:
        if os.getpid() == process:  # and not a loader worker
            reach(f"step {step}: {what}", first)

    def before(owner: Any, name: str, what: Callable[..., str | None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def announced(*arguments: Any, **keywords: Any) -> Any:
            if (text := what(*arguments)) is not None:
                announce(text)
            return original(*arguments, **keywords)

        setattr(owner, name, announced)

    def named(path: Any) -> str | None:
        """Return the final name of a file below `output_dir`, None for other files."""
        path = Path(_name_of(path) if isinstance(path, int) else path)
        if not path.is_relative_to(output_dir):
            return None
        parts = [re.sub(r"^\.(.+)\.[^.]+\.tmp$", r"\1", part) for part in path.relative_to(output_dir).parts]
        return "/".join(parts[3:] or parts)

    def verb(word: str, position: int = 0) -> Callable[..., str | None]:
        def what(*arguments: Any) -> str | None:
            name = named(arguments[position])
            return None if name is None else f"{word} {name}"

        return what

    for name, position in (("mkdir", 0), ("fsync", 0), ("replace", 1), ("rename", 1), ("ftruncate", 0)):
        before(os, name, verb(name, position))
    for owner, name, what in (
        (OptimizerStep, "_backward", "forward pass of training"),
        (ClassificationMetrics, "update", "batch of an evaluation"),
        (torch.optim.AdamW, "step", "optimizer"),
        (Schedule, "step", "schedule"),
    ):
        before(owner, name, lambda *_, what=what: what)

    def write_in_halves(descriptor: int, data: bytes) -> int:
        if (name := named(descriptor)) is not None:
            announce(f"write {name}")
            announce(f"half a write {name}", lambda: write(descriptor, data[: len(data) // 2]))
        return write(descriptor, data)

    class InHalves(io.BufferedWriter):
        def __init__(self, descriptor: int, name: str) -> None:
            super().__init__(io.FileIO(descriptor, "wb"))
            self._what = f"half a write {name}"

        def write(self, data: Any) -> int:
            announce(self._what, lambda: (io.BufferedWriter.write(self, data[: len(data) // 2]), self.flush()))
            return super().write(data)

    def open_in_halves(descriptor: int, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode == "wb" and (name := named(descriptor)) is not None:
            return InHalves(descriptor, name)
        return fdopen(descriptor, mode, *arguments, **keywords)

    os.write, os.fdopen = write_in_halves, open_in_halves  # type: ignore[assignment]

    def track_step(self: Loop, microbatches: Any) -> None:
        nonlocal step
        step = self.step
        train_step(self, microbatches)
        step = self.step

    Loop._train_step = track_step  # type: ignore[method-assign]

    import safetensors.torch
    import transformers.modeling_utils as modeling

    save_file = safetensors.torch.save_file

    def save_in_halves(tensors: Any, path: Any, **keywords: Any) -> None:
        def half() -> None:
            save_file(tensors, path, **keywords)
            os.truncate(path, Path(path).stat().st_size // 2)

        announce(f"half a write {named(path)}", half)
        save_file(tensors, path, **keywords)

    safetensors.torch.save_file = modeling.safe_save_file = save_in_halves


def _name_of(descriptor: int) -> str:
    """Return the path of an open file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return ""
    if Path("/proc/self/fd").exists():
        return os.readlink(f"/proc/self/fd/{descriptor}")
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode()  # type: ignore[attr-defined]
