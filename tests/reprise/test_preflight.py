"""A preflight goes through all that a run would, says what it would take, and leaves nothing behind."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY, TRAIN, compose
from torch import Tensor, nn

from reprise.callbacks import Callback, Outcome, StartedRun
from reprise.cli.resuming import resume
from reprise.errors import ConfigError, InputError
from reprise.metrics import Metric
from reprise.models import ModelOutput
from reprise.runs.train import train
from reprise.tools.preflight import preflight
from reprise.tools.preflight.findings import PreflightFindings

OWN = "trusted_packages=[test_preflight]"


class Broken(nn.Module):
    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.head = nn.Linear(63, 10)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return ModelOutput(self.head(pixel_values.flatten(1)))


class Renamed(Metric):
    names = ("sharpness",)

    def reset(self) -> None:
        pass

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        pass

    def compute(self) -> dict[str, float]:
        return {"sharpnes": 1.0}


class Undefined(Renamed):
    """Is not defined for one batch."""

    def __init__(self) -> None:
        self._num_batches = 0

    def reset(self) -> None:
        self._num_batches = 0

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        self._num_batches += 1

    def compute(self) -> dict[str, float]:
        if self._num_batches < 2:
            raise ValueError("expected two batches or more")
        return {"sharpness": 1.0}


class FailsAtTheEnd(Callback):
    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        raise KeyError("a callback's own")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that takes all temporary ones."""
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def check(tmp_path: Path, *overrides: str) -> PreflightFindings:
    """Check a tiny run; whatever comes of it, nothing is left."""
    try:
        return preflight(compose(*TINY, "preflight=true", f"output_dir={tmp_path / 'outputs'}", *overrides).config)
    finally:
        assert left_in(tmp_path) == ["scratch"]


def left_in(path: Path) -> list[str]:
    # torch keeps a cache of its own, whoever imports its compiler.
    return [found.name for found in path.rglob("*") if "torchinductor" not in str(found)]


def test_a_run_that_would_work_is_reported_with_what_it_would_take(tmp_path: Path) -> None:
    found = check(tmp_path, "training.checkpoint_every_epochs=1", "training.max_epochs=7", "training.device=auto")
    steps_per_epoch = -(-180 // 32)
    assert found.estimate.total_steps == 7 * steps_per_epoch
    assert found.estimate.num_evaluations == 7
    assert found.estimate.num_checkpoints == 2 + 7
    assert found.sizes == {"train": 180, "val": 90, "test": 130}
    assert len(found.losses) > 1
    text = found.text()
    assert "the run would work" in text
    assert "training.monitor=val/loss is among them" in text
    assert f"{found.estimate.total_steps} steps of" in text


def test_checkpoint_size_and_disk_are_those_of_the_real_run(tmp_path: Path, train_tiny: Callable[..., Path]) -> None:
    run = train_tiny("run_id=real", "training.checkpoint_every_epochs=1")
    estimate = preflight(compose(*TINY, "training.checkpoint_every_epochs=1").config).estimate
    kept = [*(run / "checkpoints").iterdir(), *(run / "export").iterdir(), run / "results" / "predictions.json"]
    assert len(list((run / "checkpoints").iterdir())) == estimate.num_checkpoints == 4
    assert estimate.disk == pytest.approx(sum(path.stat().st_size for path in kept), rel=0.05)


def test_a_model_that_cannot_take_the_data_is_named_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"(?s)^model, metrics.* failed with RuntimeError: .*mat1 .*in forward, .*:\d+$"
    ):
        check(tmp_path, OWN, "model._target_=test_preflight.Broken")


def test_a_monitor_that_no_metric_computes_is_found_before_training(tmp_path: Path) -> None:
    own = (OWN, "+metrics.own._target_=test_preflight.Renamed", "training.monitor=val/sharpness")
    message = r"training\.monitor: no metric computes 'val/sharpness'; did you mean `val/sharpnes`"
    with pytest.raises(InputError, match=message):
        check(tmp_path, *own)
    with pytest.raises(InputError, match=message):
        train(compose(*TINY, f"output_dir={tmp_path / 'outputs'}", *own))
    assert not (tmp_path / "outputs").exists()


def test_a_metric_that_one_batch_does_not_define_may_be_monitored(train_tiny: Callable[..., Path]) -> None:
    own = (OWN, "+metrics.own._target_=test_preflight.Undefined", "training.monitor=val/sharpness")
    run = train_tiny(*own)
    assert json.loads((run / "status.json").read_text())["status"] == "completed"


def test_what_fails_at_the_very_end_of_a_run_is_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='failed with KeyError: "a callback\'s own"'):
        check(tmp_path, OWN, "+callbacks.own._target_=test_preflight.FailsAtTheEnd")


def test_a_loss_that_is_not_finite_is_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"failed with NonFiniteError: .* is (nan|inf) at step"):
        check(tmp_path, "training.learning_rate=1e30", "training.gradient_clip=null")


def test_a_place_that_cannot_hold_the_run_is_named(tmp_path: Path, scratch: Path) -> None:
    (scratch / "file").touch()
    with pytest.raises(InputError, match=r"output_dir: no run can be created in .*file/deep"):
        preflight(compose(*TINY, f"output_dir={scratch / 'file' / 'deep'}").config)


def test_a_run_that_is_there_with_another_config_is_named(train_tiny: Callable[..., Path], tmp_path: Path) -> None:
    run = train_tiny("run_id=first")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    place = (f"output_dir={tmp_path}", "run_id=first")
    assert preflight(compose(*TINY, *place, "preflight=true").config).sizes["train"] == 180
    with pytest.raises(ConfigError, match=r"seed: 42 there, 7 asked for"):
        preflight(compose(*TINY, *place, "seed=7").config)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match=r"preflight: is for scripts/train\.py"):
        resume(run, ["preflight=true"])


def test_the_command_checks_all_values_of_a_sweep_and_tries_the_first_job(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    command = [sys.executable, str(TRAIN), "-m", *TINY, f"output_dir={outputs}", "preflight=true", "seed=1,2"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Every value of the sweep is valid. Its first job is tried:\n\nPreflight of base")
    assert left_in(tmp_path) == ["scratch"]
