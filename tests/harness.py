"""Runs, kills and compares: what the tests of the promises share."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import TINY, compose

from reprise.checkpoint import content_hash, read_checkpoint
from reprise.run_directory import RunDirectory
from reprise.train import train

# Everything that could go wrong on resume: dropout, augmentation, accumulation over a ragged end, a schedule,
# evaluations and checkpoints between and at the ends of epochs, early stopping.
EVERYTHING = (
    *TINY,
    "training.gradient_accumulation=2",
    "training.checkpoint_every_steps=2",
    "training.checkpoint_every_epochs=1",
    "training.eval_every_steps=2",
    "training.log_every_steps=1",
    "callbacks=[default,early_stopping]",
    "num_threads=1",
)


def run_facts(path: Path) -> dict[str, Any]:
    """Return all that must be equal between two runs that are the same: states by hash, files as they are."""
    run = RunDirectory(path)
    facts: dict[str, Any] = {
        "metrics.jsonl": [
            {key: value for key, value in json.loads(line).items() if key != "timestamp"}
            for line in run.metrics_log.read_text().splitlines()
        ],
        "predictions.json": run.predictions.read_text(),
        "metrics.json": run.metrics.read_text(),
        "export": content_hash((run.export / "model.safetensors").read_bytes()),
    }
    for checkpoint in sorted(run.checkpoints.iterdir()):
        for key, value in read_checkpoint(checkpoint).items():
            if key not in ("config", "sha256"):
                facts[f"{checkpoint.name}: {key}"] = content_hash(value)
    return facts


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return the names of the facts in which two runs differ."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def train_in_child(overrides: tuple[str, ...], prepare: Callable[[], None] = lambda: None) -> int:
    """Train in a forked process after calling `prepare` there; return its wait status."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            prepare()
            train(compose(*overrides))
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def kill_at_call(number: int, places: list[tuple[Any, str]]) -> Callable[[], None]:
    """Return what makes a process kill itself, with SIGKILL, before the call with this number to any of `places`."""

    def prepare() -> None:
        for owner, name in places:
            setattr(owner, name, _counted(getattr(owner, name)))

    calls = [0]

    def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return counted

    return prepare


@contextmanager
def count_calls(places: list[tuple[Any, str]]) -> Iterator[list[str]]:
    """Yield the names of `places` in the order in which they are called."""
    originals = [(owner, name, getattr(owner, name)) for owner, name in places]
    calls: list[str] = []

    def _noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return function(*arguments, **keywords)

        return noted

    for owner, name, original in originals:
        setattr(owner, name, _noted(name, original))
    try:
        yield calls
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
