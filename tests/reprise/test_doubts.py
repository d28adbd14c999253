"""Settings that a run takes and that make no sense: one line before training, in preflight, and in the card."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from odd_parts import OWN, part
from tiny_runs import TINY, compose

from reprise.config.schema import TrainingConfig
from reprise.runs.doubts import doubts
from reprise.tools.preflight import preflight

SGD = {"_target_": "torch.optim.SGD"}

# With 100 samples, 4 a step, and 2 epochs: 50 steps.
DOUBTFUL: dict[str, tuple[dict[str, Any], str]] = {
    "a warm-up that is longer than the run": (
        {"warmup_steps": 51},
        "50 steps, so that the learning rate only rises",
    ),
    "a warm-up as long as the run": ({"warmup_steps": 50}, "the run has 50 steps"),
    "steps that are never reached": ({"max_steps": 51}, "training.max_epochs=2 ends the run before, after 50 steps"),
    "evaluations that never come": ({"eval_every_steps": 51}, "50 steps, so that evaluations come at the end of each"),
    "checkpoints that never come": (
        {"checkpoint_every_steps": 51},
        "it is saved at the end of each epoch only",
    ),
    "epochs that never come": ({"checkpoint_every_epochs": 3}, "2 epochs, so that no periodic checkpoint is kept"),
    "a batch that is larger than the data": (
        {"batch_size": 101},
        "the training split has 100 samples, so that",
    ),
    "a step that is larger": (
        {"gradient_accumulation": 26},
        "a step would have 104 samples, and the train",
    ),
    "a rate that moves nothing": ({"learning_rate": 1e-9}, "below 1e-08 the weights stay about what they are"),
    "a rate that is too large for Adam": ({"learning_rate": 1.0}, "AdamW changes each weight by about so much"),
    "a rate that is too large": ({"learning_rate": 100.0, "optimizer": SGD}, "seldom converges"),
}
SENSIBLE: tuple[dict[str, Any], ...] = (
    {},
    {"warmup_steps": 49, "max_steps": 50, "eval_every_steps": 50, "checkpoint_every_steps": 50},
    {"checkpoint_every_epochs": 2, "batch_size": 100},
    {"batch_size": 4, "gradient_accumulation": 25},
    {"learning_rate": 1e-8},
    {"learning_rate": 0.9},
    {"learning_rate": 10.0, "optimizer": SGD},
    {"warmup_steps": 99, "scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR"}},  # which knows none
)
DATA = {"splits": {"train": {"num_samples": 100}}, "labels": ["cat", "dog"]}


def of(training: dict[str, Any], data: Any = DATA) -> list[tuple[str, str]]:
    values = dataclasses.asdict(dataclasses.replace(TrainingConfig(batch_size=4, max_epochs=2), **training))
    return [(doubt.setting, doubt.why) for doubt in doubts({"training": values}, data)]


@pytest.mark.parametrize("what", DOUBTFUL)
def test_each_doubtful_setting_is_one_line_that_names_it(what: str) -> None:
    training, why = DOUBTFUL[what]
    ((setting, found),) = of(training)
    key = next(iter(training))
    assert setting == f"training.{key}={training[key]:g}"
    assert why in found


@pytest.mark.parametrize("training", SENSIBLE)
def test_settings_at_the_edge_of_sense_are_passed_over(training: dict[str, Any]) -> None:
    assert of(training) == []


def test_names_of_classes_that_are_the_same_or_empty_are_doubtful() -> None:
    assert of({}, {"labels": ["cat", "", "dog", "cat", " "]}) == [
        ("data", "2 classes of 5 have an empty name: 1, 4"),
        ("data", "classes have the same name, and cannot be told apart in results: 'cat' (2 times)"),
    ]


def test_a_longer_run_that_is_cut_at_an_epoch_with_drop_last_is_counted_so() -> None:
    data = {"splits": {"train": {"num_samples": 103}}}
    assert of({"drop_last": True, "eval_every_steps": 51}, data)
    assert not of({"eval_every_steps": 51}, data)


@pytest.mark.parametrize("config", [{}, {"training": None}, {"training": {"max_epochs": "x"}}, {"training": {"a": 1}}])
def test_a_config_that_is_none_brings_no_doubts(config: dict[str, Any]) -> None:
    assert [d for d in doubts(config, {"splits": None}) if d.setting != "training.learning_rate=0.0001"] == []


def test_a_sensible_run_says_nothing(train_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    train_tiny("training.max_epochs=1")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_doubts_stand_in_log_preflight_and_card(
    train_tiny: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = (OWN, part("data", "load_same_names"), "training.warmup_steps=500", "training.learning_rate=1e-9")
    run = train_tiny(*options)
    said = [
        ("training.learning_rate=1e-09", "below 1e-08 the weights stay about what they are"),
        ("training.warmup_steps=500", "the run has 12 steps, so that the learning rate only rises, and training ends "),
        ("data", "classes have the same name, and cannot be told apart in results: 'same' (10 times)"),
    ]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(said)
    card = (run / "model_card.md").read_text("utf-8")
    caplog.clear()
    report = preflight(compose(*TINY, *options, f"output_dir={tmp_path / 'other'}").config).text()
    for (setting, why), warning in zip(said, warnings, strict=True):
        assert warning.startswith(f"{setting}: {why}")
        assert f"`{setting}`: {why}" in card
        assert f"Warning: {setting}: {why}" in report
    assert caplog.records == []
