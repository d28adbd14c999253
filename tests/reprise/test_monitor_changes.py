"""Resumed with another monitor, a run compares evaluations by that one metric, and its card states what was so."""

import json
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import completed, copied, failing, resumed, state, stopped

import reprise.runs.resuming.restoring
from reprise.files.json_file import read_object
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.text.numbers import score
from reprise.tools.checklist import check_run
from reprise.tools.model_card import model_card_text, write_model_card

ACCURACY = ("training.monitor=val/accuracy", "training.monitor_mode=max")
KEPT = ("training.checkpoint_every_epochs=1",)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return completed(tmp_path_factory.mktemp("complete"), *KEPT)


@pytest.fixture(scope="module")
def at_step_8(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return stopped(tmp_path_factory.mktemp("stopped"), 8)


def evaluations(run: RunDirectory, metric: str) -> dict[int, float]:
    lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    return {line["step"]: line["metrics"][metric] for line in lines if metric in line["metrics"]}


def stated(run: RunDirectory) -> str:
    text = run.model_card.read_text()
    return text[text.index("It was chosen because") :].split("\n", 1)[0]


@pytest.mark.parametrize("which", ["complete", "at_step_8"])
@pytest.mark.parametrize("changes", [ACCURACY, ("training.monitor_mode=max",), ("training.monitor=train/loss",)])
def test_another_monitor_chooses_among_what_was_measured_by_it(
    which: str, changes: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = copied(request.getfixturevalue(which), tmp_path)
    resumed(run, *changes)
    results, last = read_object(run.metrics), state(run)
    monitor, mode = last["config"]["training"]["monitor"], last["config"]["training"]["monitor_mode"]
    after = last["loop_state"]["chosen_from"]
    found = {step: value for step, value in evaluations(run, monitor).items() if step > after}
    best = (max if mode == "max" else min)(found, key=found.__getitem__)
    assert last["loop_state"]["best"]["step"] == best
    assert read_checkpoint(run.best_checkpoint)["step"] == best == results["step"]
    assert results["monitor"] == {"metric": monitor, "mode": mode, "value": found[best]} | (
        {"after_step": after} if after else {}
    )
    word = "highest" if mode == "max" else "lowest"
    beginning = f"It was chosen because `{monitor}` was {word} there ({score(monitor, found[best])})"
    assert stated(run).startswith(beginning + (f", of the evaluations after step {after}" if after else "."))
    assert failing(run) == []


def test_back_to_the_first_monitor_it_is_the_first_choice_where_the_checkpoint_is_left(
    complete: RunDirectory, tmp_path: Path
) -> None:
    run = copied(complete, tmp_path)
    resumed(run, *ACCURACY)
    resumed(run, "training.monitor=val/loss", "training.monitor_mode=min")
    assert failing(run) == []
    if state(run)["loop_state"]["chosen_from"] == 0:
        assert read_object(run.metrics)["weights_sha256"] == read_object(complete.metrics)["weights_sha256"]


def test_a_later_evaluation_can_be_better_by_the_new_monitor(at_step_8: RunDirectory, tmp_path: Path) -> None:
    run = copied(at_step_8, tmp_path)
    resumed(run, *ACCURACY, "training.max_epochs=5")
    found = evaluations(run, "val/accuracy")
    assert max(found, key=found.__getitem__) > 8
    assert read_checkpoint(run.best_checkpoint)["metrics"]["val/accuracy"] == max(found.values())


def test_early_stopping_counts_anew_by_the_new_monitor(tmp_path: Path) -> None:
    stopping = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=2", "training.max_epochs=3")
    run = stopped(tmp_path, 8, *stopping, "training.monitor_mode=max")  # the loss falls: 4 stays the best
    counted = state(run)["callback_states"]["early_stopping"]
    resumed(run, "training.monitor_mode=min")
    assert counted["num_without_improvement"] > 0
    assert state(run)["step"] > 12


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_without_forgetting_the_other_metric_the_card_refuses_to_state_it(
    is_taken_out: bool, complete: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(complete, tmp_path)
    if is_taken_out:
        monkeypatch.setattr(reprise.runs.resuming.restoring, "_restore_best", lambda *_: None)
    resumed(run, "training.monitor_mode=max")
    assert ("Why it was chosen is not stated" in run.model_card.read_text()) is is_taken_out
    assert bool(failing(run)) is is_taken_out


def edited(run: RunDirectory, **values: Any) -> str:
    results = read_object(run.metrics)
    for name, value in values.items():
        place, _, key = name.partition("__")
        if key:
            results[place][key.replace("_", "/")] = value
        else:
            results[place] = value
    run.metrics.write_text(json.dumps(results))
    return model_card_text(run, check_run(run))


def test_a_figure_that_differs_from_its_source_is_not_stated(complete: RunDirectory, tmp_path: Path) -> None:
    run = copied(complete, tmp_path / "monitor")
    text = edited(run, monitor__value=0.9026)
    assert "Why it was chosen is not stated: see [Limitations](#limitations)." in text
    assert "Not stated, since the files of the run differ: `monitor` (results/metrics.json says" in text
    assert "0.9026)." not in text

    run = copied(complete, tmp_path / "validation")
    text = edited(run, validation_metrics__val_accuracy=0.123)
    assert "12.30 %" not in text
    assert "`val/accuracy` (results/metrics.json says 0.123, and logs/metrics.jsonl" in text

    run = copied(complete, tmp_path / "epoch")
    assert "(epoch 7" not in edited(run, epoch=7)
    write_model_card(run, check_run(run))


def test_the_card_of_an_unchanged_run_states_everything(complete: RunDirectory) -> None:
    assert "ot stated" not in complete.model_card.read_text()
    assert failing(complete) == []
