"""A change of the config on resuming is in force, or it is refused in one message and no byte of the run changes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import run_in_child
from resumed_runs import (
    RESUMED,
    completed,
    contents,
    copied,
    failing,
    quick,
    rates,
    refused,
    resumed,
    settings,
    state,
    stopped,
    weights,
)
from tiny_runs import compose

import reprise.runs.provenance_file
import reprise.runs.resuming.optimizer_settings
from reprise.cli.resuming import resume
from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.training.loop import Loop

SCHEDULES: dict[str, dict[str, Any]] = {
    "step": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3, "gamma": 0.5},
    "exponential": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9},
    "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 9},
    "one cycle": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.05},
    "ours": {"_target_": "reprise.optimization.schedules.LinearSchedule"},
}
NO_WARM_UP = "training.warmup_steps=0"


@pytest.fixture(scope="module")
def at_step_8(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run of two epochs of 6 steps, stopped after 8."""
    return stopped(tmp_path_factory.mktemp("stopped"), 8)


def test_the_optimizer_is_set_as_the_changed_config_says(at_step_8: RunDirectory, tmp_path: Path) -> None:
    plain, changed = copied(at_step_8, tmp_path / "plain"), copied(at_step_8, tmp_path / "changed")
    resumed(plain)
    resumed(changed, "training.weight_decay=5.0", "training.optimizer.betas=[0.5,0.6]", "training.optimizer.eps=0.1")
    assert weights(changed) != weights(plain)
    assert [group["weight_decay"] for group in settings(changed)] == [5.0, 0.0]
    assert [(tuple(group["betas"]), group["eps"]) for group in settings(changed)] == [((0.5, 0.6), 0.1)] * 2
    assert failing(changed) == []


def test_a_changed_optimizer_makes_the_steps_that_one_set_by_hand_makes(
    at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, by_hand = copied(at_step_8, tmp_path / "changed"), copied(at_step_8, tmp_path / "by_hand")
    resumed(changed, "training.optimizer.eps=0.1")
    run = Loop.run

    def set_by_hand(self: Loop) -> None:
        for group in self.optimizer.param_groups:
            group["eps"] = 0.1
        run(self)

    monkeypatch.setattr(Loop, "run", set_by_hand)
    resumed(by_hand)
    assert weights(changed) == weights(by_hand)


def test_what_a_callback_has_set_stays_unless_the_config_changes_it(
    at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(at_step_8, tmp_path)
    train_step = Loop._train_step

    def set_and_stop(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        train_step(self, microbatches)
        if self.step == 9:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.7
                group["eps"] = 1e-3
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_step", set_and_stop)
        with pytest.raises(BaseException, match="SIGTERM"):
            resumed(run)
    resumed(run, "training.optimizer.eps=0.01")
    assert [(group["weight_decay"], group["eps"]) for group in settings(run)] == [(0.7, 0.01)] * 2


def of_schedule(spec: dict[str, Any]) -> list[str]:
    target, *others = [f"training.scheduler.{name}={value}" for name, value in spec.items()]
    return [NO_WARM_UP, target, *(f"+{other}" for other in others)]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *((name, "learning_rate=0.1") for name in SCHEDULES),
        *((name, "max_epochs=3") for name in ("one cycle", "step")),
        *((name, "scheduler") for name in ("one cycle", "step", "ours")),
    ],
)
def test_a_changed_schedule_gives_the_rates_of_a_run_that_was_configured_so(
    name: str, changed: str, tmp_path: Path
) -> None:
    spec = after = SCHEDULES[name]
    changes = [f"training.{changed}"]
    if changed == "scheduler":
        after = SCHEDULES["step"] if name != "step" else SCHEDULES["one cycle"]
        changes = [f"training.scheduler={{{', '.join(f'{key}: {value}' for key, value in after.items())}}}"]
    run = stopped(tmp_path / "stopped", 8, *of_schedule(spec))
    resumed(run, *changes)
    whole = completed(tmp_path / "whole", *of_schedule(after), *(changes if changed != "scheduler" else ()))
    assert [rates(run)[step] for step in rates(whole) if step > 8] == [r for s, r in rates(whole).items() if s > 8]
    assert failing(run) == []


def test_a_run_under_another_schedule_is_resumed_unchanged_to_the_bit(tmp_path: Path) -> None:
    options = (
        NO_WARM_UP,
        "training.scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
        "+training.scheduler.max_lr=0.05",
    )
    run = stopped(tmp_path / "stopped", 8, *options)
    resumed(run)
    whole = completed(tmp_path / "whole", *options)
    for key in ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict"):
        assert content_hash(state(run)[key]) == content_hash(state(whole)[key])


def test_half_precision_begins_with_a_fresh_scale_and_leaves_none_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = stopped(tmp_path / "run", 8)
    assert state(run)["loop_state"]["scaler"] is None
    resumed(run, "training.precision=fp16", "training.max_steps=10")
    assert state(run)["loop_state"]["scaler"]["scale"] > 0
    assert "training.precision: the scale of the loss begins anew" in run.train_log.read_text()
    resumed(run, "training.precision=fp32", "training.max_steps=null")
    assert state(run)["loop_state"]["scaler"] is None
    assert failing(run) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.optimizer={_target_: torch.optim.SGD}"],
            "training.optimizer._target_: the state that was saved is",
        ),
        (["training.optimizer.amsgrad=true"], "training.optimizer.amsgrad: the state in"),
        (["model.hidden_size=32"], "model.hidden_size: the model would have begun with other weights"),
        (["trusted_packages=[odd_parts]"], "trusted_packages: that of a run has no effect; give --trust PACKAGE"),
        (["seed=1"], "seed: initial weights, splits and the order of samples came from 42"),
        (["data.train_split=0.5"], "data.train_split: other samples are in train and in val"),
        (["training.max_steps=5"], "training.max_steps: 8 steps are done"),
        (["training.batch_size=32"], "training.batch_size=2 or 17 or 34 fits"),
        (
            ["training.log_every_steps=3", "callbacks.metrics_log.every_steps=2"],
            "training.log_every_steps: has no effect",
        ),
        (["metrics.classification.no_such=1"], "metrics.classification.no_such"),
    ],
)
def test_what_cannot_be_is_one_message_and_the_run_carries_on_as_it_was(
    overrides: list[str], message: str, at_step_8: RunDirectory, tmp_path: Path
) -> None:
    run = copied(at_step_8, tmp_path)
    assert message in refused(run, *overrides)
    resumed(run)
    assert len(run.read_status()["attempts"]) == 2


@pytest.mark.parametrize(
    ("optimizer", "absent", "override"),
    [
        ("Adagrad", ["betas"], "training.optimizer.initial_accumulator_value=0.5"),
        ("Rprop", ["betas", "eps", "fused"], "training.learning_rate=0.5"),
    ],
)
def test_what_an_optimizer_looks_at_in_its_first_step_alone_cannot_be_changed(
    optimizer: str, absent: list[str], override: str, tmp_path: Path
) -> None:
    overrides = [f"training.optimizer._target_=torch.optim.{optimizer}", *(f"~training.optimizer.{n}" for n in absent)]
    run = stopped(tmp_path, 8, *overrides)
    key = override.partition("=")[0]
    assert f"{key}: {optimizer} looks at it in the first step alone, and 8 are done" in refused(run, override)


def test_what_cannot_be_built_any_more_leaves_every_byte(
    at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(at_step_8, tmp_path)

    def missing(*_: Any, **__: Any) -> None:
        raise InputError("data.path: there is no such file")

    before = contents(run)
    monkeypatch.setattr("tiny.images.split_rows", missing)
    with pytest.raises(InputError, match="no such file"):
        resumed(run)
    assert contents(run) == before


def test_a_change_that_was_not_written_before_a_kill_is_not_said_to_be_made(
    at_step_8: RunDirectory, tmp_path: Path
) -> None:
    run = copied(at_step_8, tmp_path)

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def attempt(name: str) -> None:
        setattr(ExperimentConfig if name == "save" else reprise.runs.provenance_file.ProvenanceFile, name, killed)
        with quick():
            resume(run.path, ["training.weight_decay=5.0"])

    assert run_in_child(lambda: attempt("save")) == -9
    assert ExperimentConfig.load(run.config).training.weight_decay == 0.05
    resumed(run)
    assert [attempt["changes"] for attempt in run.read_status()["attempts"]] == [[], [], []]
    assert failing(run) == []

    run = copied(at_step_8, tmp_path / "second")
    assert run_in_child(lambda: attempt("release")) == -9
    resumed(run)
    changes = [{"key": "training.weight_decay", "from": 0.05, "to": 5.0}]
    assert [attempt["changes"] for attempt in run.read_status()["attempts"]] == [[], changes, []]
    assert [group["weight_decay"] for group in settings(run)] == [5.0, 0.0]
    assert failing(run) == []


def epochs(run: RunDirectory) -> list[tuple[int, int]]:
    """Return step and epoch of each evaluation."""
    lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    return [(line["step"], line["epoch"]) for line in lines if "val/loss" in line["metrics"]]


def samples(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[tuple[int, list[int]]]:
    """Resume the run, and return epoch and sample indices of each step."""
    found: list[tuple[int, list[int]]] = []
    train_step = Loop._train_step

    def noting(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        train_step(self, microbatches)
        found.append((self.epoch, self._batches.samples_of_step(self.step)))

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_step", noting)
        resumed(run, *overrides)
    return found


def test_with_another_batch_size_an_epoch_keeps_its_number_and_its_samples(
    at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plain, run = copied(at_step_8, tmp_path / "plain"), copied(at_step_8, tmp_path / "run")
    rest = sorted(index for _, indices in samples(plain, monkeypatch) for index in indices)
    # 68 of 180 samples of epoch 2 are trained on: one step of 68; an epoch has 3 of them.
    seen = samples(run, monkeypatch, "training.batch_size=34", "training.max_epochs=3")
    assert [epoch for epoch, _ in seen] == [2, 2, 3, 3, 3]
    assert sorted(index for epoch, indices in seen for index in indices if epoch == 2) == rest
    assert sorted(index for epoch, indices in seen for index in indices if epoch == 3) == list(range(180))
    assert epochs(run) == [(4, 1), (6, 1), (8, 2), (10, 2), (12, 3), (13, 3)]
    assert failing(run) == []
    assert "epoch 3/3  step 13/13" in run.train_log.read_text()
    # A second change, and a run that is resumed once more.
    assert [epoch for epoch, _ in samples(run, monkeypatch, "training.batch_size=17", "training.max_epochs=4")] == [
        4
    ] * 6
    assert epochs(run)[-2:] == [(16, 4), (19, 4)]
    assert failing(run) == []


def test_where_the_epoch_has_ended_any_batch_size_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopped(tmp_path, 6)
    assert [epoch for epoch, _ in samples(run, monkeypatch, "training.batch_size=50")] == [2, 2]
    assert failing(run) == []


def test_the_way_out_of_a_batch_size_that_does_not_fit_is_one(at_step_8: RunDirectory, tmp_path: Path) -> None:
    run = copied(at_step_8, tmp_path)
    assert "let the epoch end first, with training.max_steps=12" in refused(run, "training.batch_size=32")
    resumed(run, "training.max_steps=12")
    resumed(run, "training.max_steps=null", "training.max_epochs=3", "training.batch_size=32")
    assert failing(run) == []


def test_keys_that_are_taken_from_others_follow_them(at_step_8: RunDirectory, tmp_path: Path) -> None:
    run = copied(at_step_8, tmp_path)
    resumed(run, "training.log_every_steps=2", "training.checkpoint_every_epochs=2")
    config = ExperimentConfig.load(run.config)
    assert config.callbacks["metrics_log"]["every_steps"] == 2  # type: ignore[index]
    assert (run.checkpoints / "epoch_002.pt").exists()
    assert sorted(rates(run)) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]


def test_a_change_of_the_card_alone_trains_nothing(tmp_path: Path) -> None:
    run = completed(tmp_path, "callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1")
    step = state(run)["step"]
    resumed(run, "card.license=mit")
    assert state(run)["step"] == step
    assert "license: mit" in run.model_card.read_text()


def test_data_that_was_changed_on_disk_is_noticed(
    at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(at_step_8, tmp_path)
    monkeypatch.setattr("tiny.images.NOISE", 3.0)
    assert "data: other samples are in train and in val" in refused(run)


def test_facts_about_the_data_are_those_of_the_changed_config(at_step_8: RunDirectory, tmp_path: Path) -> None:
    run = copied(at_step_8, tmp_path)
    before = json.loads(run.provenance.read_text())
    resumed(run, "data.val_split=0.3")
    after = json.loads(run.provenance.read_text())
    assert [after["data"]["splits"][name]["num_samples"] for name in ("train", "val")] == [180, 120]
    assert after["model"] == before["model"]
    assert "the best evaluation is forgotten, since the split val has another content" in run.train_log.read_text()
    assert state(run)["loop_state"]["best"]["step"] > 8
    assert failing(run) == []


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_without_setting_what_differs_the_checklist_finds_it(
    is_taken_out: bool, at_step_8: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(at_step_8, tmp_path)
    if is_taken_out:
        monkeypatch.setattr(reprise.runs.resuming.optimizer_settings.Settings, "apply", lambda self: None)
    resumed(run, "training.weight_decay=5.0")
    assert bool([line for line in failing(run) if line.startswith("Config in force: `weight_decay`")]) is is_taken_out


def test_the_same_command_still_works_after_a_refused_resume(tmp_path: Path) -> None:
    run = stopped(tmp_path, 8)
    refused(run, "training.optimizer.amsgrad=true", "training.max_epochs=5")
    with quick():
        train(compose(*RESUMED, f"output_dir={tmp_path}", "run_id=run"))
    assert run.read_status()["status"] == "completed"
