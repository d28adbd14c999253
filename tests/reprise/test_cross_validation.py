"""Folds are ordinary keys, and a sweep over them is cross-validation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import TINY, TRAIN, compose

from reprise.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.fold=5",), r"data\.fold .*: expected 0 to 4 beside data\.num_folds=5, got 5"),
        (("data.fold=-1",), r"data\.fold .*: expected an integer ≥ 0 or null, got -1"),
        (("data.fold=0", "data.num_folds=1"), r"data\.num_folds .*: expected an integer ≥ 2, got 1"),
        (("data.fold=0", "data.num_folds=2", "data.val_split=0.5"), r"data\.val_split .*: expected less than 0\.5"),
        (("data=texts", "model=bert_tiny", "++data.stratify=true"), r"data\.stratify .*takes no such argument"),
    ],
)
def test_folds_that_cannot_be_are_named_before_anything_starts(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("experiment=base", *overrides)


def test_a_sweep_over_folds_is_one_setting_with_a_mean_over_folds(tmp_path: Path) -> None:
    command = (str(TRAIN), "-m", *TINY, "num_threads=1", "sweep_id=s", f"output_dir={tmp_path}")
    folds = ("data.fold=range(0,3)", "data.num_folds=3", "data.stratify=true", "training.max_steps=4")
    done = subprocess.run([sys.executable, *command, *folds], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "± is the standard deviation over folds (n − 1)" in done.stdout
    summary = json.loads((tmp_path / "experiments" / "base" / "sweeps" / "s" / "summary.json").read_text())
    (group,) = summary["groups"]
    assert (len(group["runs"]), group["metrics"]["test/loss"]["num"]) == (3, 3)
    sizes = [
        json.loads((tmp_path / "experiments" / "base" / run / "provenance.json").read_text())["data"]["splits"]["test"]
        for run in group["runs"]
    ]
    assert sum(size["num_samples"] for size in sizes) == 400
    assert len({size["sha256"] for size in sizes}) == 3
