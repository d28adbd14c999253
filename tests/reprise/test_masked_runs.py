"""Whole runs with splits in which there is nothing to score, and with parts that return what is seldom returned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY, compose

from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory
from reprise.runs.saved_run import load_run
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.tools.preflight import preflight

FLAT = ("model._target_=tiny.odd.Flat",)


def masked(*splits: str, first_only: bool = False) -> tuple[str, ...]:
    own = ("data._target_=tiny.odd.load_masked", f"+data.masked=[{','.join(splits)}]")
    return (*own, f"+data.first_only={first_only}", *FLAT)


def failed_checks(run: Path) -> list[str]:
    """Return what the checklist finds wrong with what the run wrote."""
    titles = ("Best and last checkpoints", "Metrics logged", "Results of the best checkpoint")
    return [c.evidence for c in check_run(RunDirectory(run)) if c.title in titles and c.verdict == "failed"]


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["metrics"] for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]


def results_of(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results" / "metrics.json").read_text())
    return results


def test_a_validation_split_without_items_is_told_before_training_if_it_is_monitored(tmp_path: Path) -> None:
    told = r"training\.monitor: 'val/loss' cannot be computed: the split 'val' has no item to score"
    with pytest.raises(InputError, match=told):
        train(compose(*TINY, *masked("val"), f"output_dir={tmp_path}"))
    with pytest.raises(InputError, match=told):
        preflight(compose(*TINY, *masked("val"), f"output_dir={tmp_path}").config)
    assert not list(tmp_path.rglob("config.json"))


def test_splits_without_items_have_no_metrics_and_end_no_run(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(*masked("val", "test"), "training.monitor=train/loss")
    lines = lines_of(run)
    assert any("train/loss" in line for line in lines)
    assert not any(name.startswith("val/") for line in lines for name in line)
    results = results_of(run)
    assert (results["split"], results["metrics"], results["details"]) == ("test", {}, {})
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    assert (run / "model_card.md").exists()
    assert failed_checks(run) == []


def test_a_training_split_without_items_trains_nothing_and_the_card_says_so(
    train_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    run = train_tiny(*masked("train"))
    assert not any("train/loss" in line for line in lines_of(run))
    assert "12 steps of 12 did not change the model, because all their labels are masked" in (
        run / "model_card.md"
    ).read_text("utf-8")
    text = preflight(compose(*TINY, *masked("train"), f"output_dir={tmp_path / 'other'}").config).text()
    assert "0 steps on the CPU; all others were skipped, and the log says why" in text


def test_a_first_batch_without_items_is_no_split_without_them(train_tiny: Callable[..., Path], tmp_path: Path) -> None:
    options = masked("train", "val", "test", first_only=True)
    run = train_tiny(*options)
    assert results_of(run)["details"]["classification"]["num_samples"] == 130 - 32
    assert len(json.loads((run / "results" / "predictions.json").read_text())) == 130 - 32
    assert preflight(compose(*TINY, *options, f"output_dir={tmp_path / 'other'}").config).losses


def test_a_model_with_more_logits_than_classes_is_refused_before_training(tmp_path: Path) -> None:
    told = r"ClassificationMetrics: expected .* 10 logits, .* logits of shape \(\d+, 12\)\. num_labels is 10: a fact"
    with pytest.raises(InputError, match=told):
        train(compose(*TINY, *FLAT, "+model.num_logits=12", f"output_dir={tmp_path}"))
    assert not list(tmp_path.rglob("config.json"))


def test_scalars_of_any_kind_and_numbers_that_are_not_finite_go_through_a_whole_run(
    train_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_tiny(
        *FLAT,
        "+metrics.odd._target_=tiny.odd.OddMetric",
        "+callbacks.odd._target_=tiny.odd.OddLog",
        "training.log_every_steps=1",
        "training.monitor=val/tensor",
        "training.monitor_mode=max",
    )
    lines = lines_of(run)
    assert all(line["train/flag"] == line["train/single"] == 1.0 for line in lines)
    evaluations = [line for line in lines if "val/loss" in line]
    assert all((line["val/tensor"], line["val/float32"]) == (90, 0.5) for line in evaluations)
    assert not any("nothing" in name for line in lines for name in line)
    results = results_of(run)
    assert (results["metrics"]["test/tensor"], results["metrics"]["test/float32"]) == (130, 0.5)
    assert "test/nothing" not in results["metrics"]
    log = (run / "logs" / "train.log").read_text()
    assert log.count("train/nothing is nan at step 1 and left out") == log.count("train/nothing") == 1
    assert log.count("val/nothing is nan at step") == len(evaluations)
    assert log.count("test/nothing is nan at step") == 1
    assert failed_checks(run) == []
    assert set(load_run(run).evaluate()["metrics"]) == set(results["metrics"])
