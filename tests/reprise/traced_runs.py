"""Trains tiny runs and notes their state after each step, apart from all that `reproduce` looks at."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny_parts
import torch
from tiny_parts import write_data

import reprise.training.step
from reprise.config import ExperimentConfig
from reprise.config.composed import Composed
from reprise.files.content_hash import content_hash
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.reproduction.verdict import Verdict
from reprise.training.loop import Loop

NUM_STEPS = 15


def config_of(output: Path, data: Path, **changes: Any) -> ExperimentConfig:
    """Return the config of a run of 15 steps in 3 epochs; `changes` by dotted key, with `__` for the dots."""
    targets = {
        "seeding": "reprise.callbacks.seeding.Seeding",
        "run_layout": "reprise.runs.persisters.run_layout.RunLayout",
        "metrics_log": "reprise.runs.persisters.metrics_writer.MetricsLog",
        "checkpoints": "reprise.runs.persisters.checkpoints.Checkpoints",
    }
    values: dict[str, Any] = {
        "experiment_name": "tiny",
        "output_dir": str(output),
        "num_threads": 1,
        "data": {"_target_": "tiny_parts.load_points", "path": str(data), "train_split": None, "val_split": None},
        "model": {"_target_": "tiny_parts.Net", "name": "net", "dropout": 0.1},
        "training": {
            "batch_size": 16,
            "learning_rate": 0.1,
            "max_epochs": 3,
            "warmup_steps": 2,
            "log_every_steps": 1,
            "optimizer": {"_target_": "tiny_parts.Descent"},
        },
        "metrics": {"classification": {"_target_": "reprise.metrics.ClassificationMetrics"}},
        "callbacks": {name: {"_target_": target} for name, target in targets.items()},
        "trusted_packages": ["tiny_parts"],
    }
    values["callbacks"]["metrics_log"]["every_steps"] = 1
    values["callbacks"]["weights_trace"] = {
        "_target_": "reprise.callbacks.weights_trace.WeightsTrace",
        "every_steps": changes.pop("trace_every_steps", 1),
    }
    values["callbacks"]["checkpoints"]["every_epochs"] = changes.pop("checkpoint_every_epochs", None)
    for key, value in changes.items():
        *sections, name = key.split("__")
        place = values
        for section in sections:
            place = place[section]
        place[name] = value
    return ExperimentConfig.from_dict(values)


@dataclass
class Traced:
    """A run, and hashes of its weights: first of the initial ones, then of those after each step."""

    run: RunDirectory
    weights: list[str] = field(default_factory=list)


def first_other_step(first: Traced, second: Traced) -> int | None:
    """Return the first step after which the weights differ, 0 for the initial ones."""
    pairs = zip(first.weights, second.weights, strict=False)
    return next((step for step, (a, b) in enumerate(pairs) if a != b), None)


def train_traced(config: ExperimentConfig) -> Traced:
    """Train in this process."""
    traced = Traced(RunDirectory(Path()))
    with _steps_noted(traced.weights):
        traced.run = RunDirectory(train(Composed(config, (), {})))
    return traced


@contextmanager
def _steps_noted(weights: list[str]) -> Iterator[None]:
    original = Loop._train_step

    def noting(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        if not weights:
            weights.append(content_hash(self.model.state_dict()))
        original(self, microbatches)
        weights.append(content_hash(self.model.state_dict()))

    Loop._train_step = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Loop._train_step = original  # type: ignore[method-assign]


_CHILD = """
import json, sys
from pathlib import Path
from reprise.config import ExperimentConfig
from traced_runs import train_traced
traced = train_traced(ExperimentConfig.load(sys.argv[1]))
Path(sys.argv[2]).write_text(json.dumps([str(traced.run.path), traced.weights]))
"""


def train_in_new_process(
    config: ExperimentConfig, scratch: Path, source: Path | None = None, **variables: str
) -> Traced:
    """Train in a fresh process with these environment variables, and with the code in `source` if that is given."""
    scratch.mkdir(parents=True, exist_ok=True)
    config.save(scratch / "asked.json")
    paths = [str(path) for path in (source, Path(__file__).parent) if path is not None]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
    command = [sys.executable, "-c", _CHILD, str(scratch / "asked.json"), str(scratch / "trace.json")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    path, weights = json.loads((scratch / "trace.json").read_text())
    return Traced(RunDirectory(path), weights)


def change_json(path: Path, dotted: str, value: Any) -> None:
    """Set one value in a JSON file; the parts of the key are divided by `/`."""
    content = json.loads(path.read_text())
    *sections, name = dotted.split("/")
    place = content
    for section in sections:
        place = place[section]
    place[name] = value
    path.write_text(json.dumps(content))


def make_clone(path: Path) -> Path:
    """Return a repository of its own with the code as it lies here, and the tiny parts among it."""
    here = Path(__file__).resolve().parents[2]
    shutil.copytree(here / "src", path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(tiny_parts.__file__, path / "src")
    (path / ".gitignore").write_text("__pycache__/\n")
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"]):
        git(path, *arguments)
    return path


def git(path: Path, *arguments: str) -> str:
    """Run git in `path` as somebody; return what it prints."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "core.hooksPath=/dev/null"]
    return subprocess.run(["git", "-C", path, *identity, *arguments], check=True, capture_output=True, text=True).stdout


def first_cause(verdict: Verdict) -> str:
    assert not verdict.is_identical
    return verdict.causes[0].sentence


def assert_parts_at(verdict: Verdict, true_step: int | None) -> None:
    """Assert that the verdict tells the step at which the weights part."""
    assert true_step is not None
    assert verdict.findings.first_step == true_step
    assert verdict.findings.weights_equal_up_to == max(0, true_step - 1)
    assert verdict.headline.startswith(f"differs from step {true_step} on")


def use_other_kernels(monkeypatch: pytest.MonkeyPatch, from_step: int) -> None:
    """Make gradients differ in the last bits from a step on, as another library or machine would."""
    clip, calls = reprise.training.step.clip_gradients, [0]

    def clip_otherwise(parameters: Any, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] >= from_step:
            for parameter in parameters:
                parameter.grad.mul_(1 + 2**-10)
        return clip(parameters, *arguments)

    monkeypatch.setattr("reprise.training.step.clip_gradients", clip_otherwise)


Again = Callable[..., Traced]


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("points") / "points.json")


@pytest.fixture(scope="module")
def reference(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Return a run that is complete; tests only read it."""
    return train_traced(config_of(tmp_path_factory.mktemp("reference"), points))


@pytest.fixture
def again(points: Path, tmp_path: Path) -> Again:
    """Return a function that trains the same run with changes, by default none."""
    return lambda **changes: train_traced(config_of(tmp_path, changes.pop("data", points), **changes))
