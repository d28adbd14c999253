"""What goes wrong after training loses nothing else: the run is complete but for it, and the same command makes it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import EVERYTHING, differences, run_facts
from odd_parts import OWN, part
from tiny_runs import TESTS, TINY, TRAIN, compose

from reprise.cli.resuming import resume
from reprise.config.composed import Composed
from reprise.errors import Incomplete
from reprise.runs.building import Task
from reprise.runs.products import refuse_missing
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.tools.further_formats import export_run
from reprise.tools.model_card import model_card_text
from reprise.training.loop import Loop

FAULTS = {
    "reprise.runs.attempt.export_model": "export",
    "reprise.tools.plots.callback.Plots.on_results": "callbacks.plots",
    "reprise.tools.model_card.callback.ModelCard.on_run_end": "callbacks.model_card",
    "reprise.metrics.ClassificationMetrics.details": "metrics.classification.details",
    "reprise.metrics.ClassificationMetrics.baselines": "metrics.classification.baselines",
    "reprise.metrics.ClassificationMetrics.predictions": "predictions.json",
    "reprise.runs.provenance_file.ProvenanceFile.set_cost": "provenance.json",
    "reprise.runs.building.Task.evaluate": "scores of the test split",
}
"""What fails, and the name under which it is missing then."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that was left alone."""
    return train(compose(*EVERYTHING, f"output_dir={tmp_path_factory.mktemp('reference')}", "run_id=run"))


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("something of its own")


def missing(run: Path) -> dict[str, str]:
    found: dict[str, str] = RunDirectory(run).read_status().get("missing", {})
    return found


def disturbed(monkeypatch: pytest.MonkeyPatch, composed: Composed, place: str, fault: Any = fail) -> Path:
    """Train with a function that fails whenever it is called after training."""
    evaluate = Task.evaluate

    def only_test(self: Task, split: str, *more: Any) -> Any:
        return fault() if split == "test" else evaluate(self, split, *more)

    with monkeypatch.context() as patch:
        patch.setattr(place, only_test if place.endswith("Task.evaluate") else fault)
        return train(composed)


@pytest.mark.parametrize("place", FAULTS)
def test_the_same_command_makes_what_is_missing_without_training_and_with_the_same_bits(
    place: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = compose(*EVERYTHING, f"output_dir={tmp_path}", "run_id=run")
    run = disturbed(monkeypatch, composed, place)
    status = RunDirectory(run).read_status()
    assert status["status"] == "completed"
    assert missing(run)[FAULTS[place]] == "RuntimeError: something of its own"
    assert len(missing(run)) == 1
    assert (run / "results" / "metrics.json").exists()
    assert (run / "model_card.md").exists() == (FAULTS[place] != "callbacks.model_card")
    assert (run / "export").exists() == (FAULTS[place] != "export")
    with pytest.raises(Incomplete) as told:
        refuse_missing(run)
    assert f"{FAULTS[place]} (RuntimeError: something of its own). scripts/resume.py {run} makes it" in str(told.value)

    monkeypatch.setattr(Loop, "_train_step", fail)
    train(composed)
    refuse_missing(run)
    assert differences(run_facts(run), run_facts(reference)) == []
    attempts = RunDirectory(run).read_status()["attempts"]
    assert len(attempts) == 2
    train(composed)
    assert RunDirectory(run).read_status()["attempts"] == attempts


def test_the_command_for_exports_makes_one_that_is_missing_and_mends_the_card(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = disturbed(
        monkeypatch,
        compose(*EVERYTHING, f"output_dir={tmp_path}", "run_id=run"),
        "reprise.runs.attempt.export_model",
    )
    export_run(run)
    assert missing(run) == {}
    assert differences(run_facts(run), run_facts(reference)) == []
    directory = RunDirectory(run)
    assert directory.model_card.read_text() == model_card_text(directory, check_run(directory))


def test_a_full_disk_in_the_export_is_told_as_one_and_the_rest_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = disturbed(monkeypatch, compose(*TINY, f"output_dir={tmp_path}"), "reprise.runs.attempt.export_model", full)
    (reason,) = missing(run).values()
    assert reason.startswith("StorageError: ")
    assert "No space left on device" in reason
    assert "are free there" in reason
    assert (run / "model_card.md").exists()


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        (part("data", "load_broken_baseline"), "data.baselines: broken"),
        (part("data", "load_broken_samples"), "data.generate"),
        (part("data", "load_broken_test"), "scores of the test split"),
        (part("+metrics.own", "UndefinedDetails"), "metrics.own.details"),
        (part("+callbacks.own", "FailsOnResults"), "callbacks.own"),
        (part("+callbacks.own", "FailsAtTheEnd"), "callbacks.own"),
    ],
)
def test_what_fails_in_code_of_ones_own_is_named_and_all_else_is_there(
    odd: str, name: str, train_tiny: Callable[..., Path]
) -> None:
    run = train_tiny(OWN, odd, "training.max_epochs=1")
    assert list(missing(run)) == [name]
    results = json.loads((run / "results" / "metrics.json").read_text())
    assert results["validation_metrics"]["val/loss"] > 0
    assert bool(results["metrics"]) == ("test" not in odd)
    assert (run / "results" / "predictions.json").exists() == ("test" not in odd)
    assert "nearest mean" in results["baselines"]
    assert (run / "export" / "config.json").exists()
    assert "## Evaluation" in (run / "model_card.md").read_text()


def test_nothing_of_a_shorter_run_stands_where_the_longer_one_could_not_make_it(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_tiny("run_id=one", "training.max_epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr("reprise.runs.attempt.export_model", fail)
        patch.setattr("reprise.tools.model_card.callback.ModelCard.on_run_end", fail)
        patch.setattr("reprise.metrics.ClassificationMetrics.predictions", fail)
        resume(run, ["training.max_epochs=2"])
    assert set(missing(run)) == {"export", "callbacks.model_card", "predictions.json"}
    assert json.loads((run / "results" / "metrics.json").read_text())["epoch"] == 2
    for name in ("export", "model_card.md", "results/predictions.json"):
        assert not (run / name).exists(), name


def test_the_command_ends_with_code_1_and_says_what_is_missing_and_which_command_makes_it(tmp_path: Path) -> None:
    overrides = [*TINY, f"output_dir={tmp_path}", "training.max_epochs=1", "run_id=one", OWN]
    command = [sys.executable, str(TRAIN), *overrides, part("+callbacks.own", "FailsOnResults")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ["PYTHONPATH"]])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    run = tmp_path / "experiments" / "base" / "one"
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == str(run)
    assert done.stderr == (
        f"Error: {run} is trained, and this is missing: callbacks.own (ValueError: a callback's own). "
        f"scripts/resume.py {run} makes it, and trains nothing again\n"
    )
