"""Runs that were stopped or are complete, to be copied and resumed with other configs."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TINY, compose

import reprise.runs.train
from reprise.cli.resuming import resume
from reprise.errors import ConfigError, Interrupted
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.training.loop import Loop

# Two epochs of 6 steps of 34 samples; evaluated after 4, 6, 8 and 12; last.pt after 3, 6, 9 and 12.
RESUMED = (
    *TINY,
    "training.batch_size=17",
    "training.gradient_accumulation=2",
    "training.learning_rate=0.02",
    "training.warmup_steps=6",
    "training.checkpoint_every_steps=3",
    "training.eval_every_steps=4",
    "training.log_every_steps=1",
    "callbacks.checkpoints.background=false",
    "callbacks.plots=null",
    "num_threads=1",
)


@cache
def known_facts() -> Any:
    """Return a function that finds out about code and machine once, since that takes long."""
    found: dict[str, Any] = {}
    collect = reprise.runs.train.collect_provenance

    def collected(*arguments: Any) -> dict[str, Any]:
        if not found:
            found.update(collect(*arguments))
        return json.loads(json.dumps(found))

    return collected


@contextmanager
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprise.runs.train.collect_provenance", known_facts())
        patch.setattr("reprise.runs.train.code_patch", lambda: b"a patch")
        yield


def completed(path: Path, *overrides: str) -> RunDirectory:
    with quick():
        return RunDirectory(train(compose(*RESUMED, f"output_dir={path}", "run_id=run", *overrides)))


def stopped(path: Path, step: int, *overrides: str) -> RunDirectory:
    """Return a run that a signal has stopped after `step` steps."""
    train_step = Loop._train_step

    def signalled(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        train_step(self, microbatches)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_train_step", signalled)
        with pytest.raises(Interrupted):
            completed(path, *overrides)
    return RunDirectory(path / "experiments" / "base" / "run")


def copied(run: RunDirectory, path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(run.path, path / "experiments" / "base" / "run"))


def resumed(run: RunDirectory, *overrides: str) -> RunDirectory:
    with quick():
        return RunDirectory(resume(run.path, overrides))


def refused(run: RunDirectory, *overrides: str) -> str:
    """Return the message that a resume is refused with, after checking that no byte of the run has changed."""
    before = contents(run)
    with pytest.raises(ConfigError) as error:
        resumed(run, *overrides)
    assert contents(run) == before
    return f"{error.value.headline}\n{error.value}"


def contents(run: RunDirectory) -> dict[str, bytes]:
    """Return the content of each file but the lock."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in sorted(run.path.rglob("*"))
        if path.is_file() and path != run.lock
    }


def state(run: RunDirectory) -> dict[str, Any]:
    return read_checkpoint(run.last_checkpoint)


def weights(run: RunDirectory) -> str:
    return content_hash(state(run)["model_state_dict"])


def settings(run: RunDirectory) -> list[dict[str, Any]]:
    """Return what the optimizer is set to, by group."""
    groups = state(run)["optimizer_state_dict"]["param_groups"]
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def rates(run: RunDirectory) -> dict[int, float]:
    """Return the learning rate that was logged at each step."""
    found = {}
    for line in run.metrics_log.read_text().splitlines():
        entry = json.loads(line)
        if "train/learning_rate" in entry["metrics"]:
            found[entry["step"]] = entry["metrics"]["train/learning_rate"]
    return found


def failing(run: RunDirectory) -> list[str]:
    """Return the lines of the checklist that fail, but for those that are about the code and packages here."""
    here = ("Packages as locked", "Code recorded")
    checks = [check for check in check_run(run) if check.verdict == "failed" and check.title not in here]
    return [f"{check.title}: {check.evidence}" for check in checks]
