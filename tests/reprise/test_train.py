"""The promises of a run: same config, same bits; nothing is lost and nothing lies."""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import EVERYTHING, Instant, Trial, differences, run_facts, weights
from tiny_runs import TINY, compose

from reprise.cli.resuming import resume
from reprise.config import ExperimentConfig
from reprise.data import fingerprint
from reprise.errors import CheckpointError, ConfigError, InputError, Interrupted, NonFiniteError
from reprise.files.content_hash import content_hash
from reprise.randomness import numpy_generator
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.training.loop import Loop
from reprise.training.signals import stopped_by_signals

TrainTiny = Callable[..., Path]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the run that all others are held against."""
    return train(compose(*EVERYTHING, f"output_dir={tmp_path_factory.mktemp('reference')}", "run_id=reference"))


def test_run_directory_holds_exactly_the_files_of_the_contract(tmp_path: Path) -> None:
    run = train(compose(*TINY, f"output_dir={tmp_path}", "tracker=tensorboard", "training.checkpoint_every_epochs=1"))
    assert run.parent == tmp_path / "experiments" / "base"
    (events,) = (run / "logs" / "tensorboard").glob("events.*")
    # The patch is there if the code has changes that are not committed.
    apart = (events, run / "code.patch")
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() and path not in apart}
    assert files == {
        "config.json",
        "provenance.json",
        "status.json",
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "checkpoints/epoch_001.pt",
        "checkpoints/epoch_002.pt",
        "logs/train.log",
        "logs/metrics.jsonl",
        "logs/tensorboard/sent.json",
        "results/predictions.json",
        "results/metrics.json",
        "results/learning_curves.svg",
        "results/confusion_matrix.svg",
        "results/reliability.svg",
        "model_card.md",
        "export/config.json",
        "export/model.safetensors",
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
    }
    assert json.loads((run / "status.json").read_text())["status"] == "completed"


def test_saved_config_is_the_config_that_ran(tmp_path: Path) -> None:
    composed = compose(*TINY, f"output_dir={tmp_path}", "run_id=named")
    run = train(composed)
    training = replace(composed.config.training, num_microbatches=1)  # resolved, as it was left open
    assert ExperimentConfig.load(run / "config.json") == replace(composed.config, training=training)


def test_provenance_holds_the_hash_of_the_order_of_the_first_epoch(finished_run: Path) -> None:
    recorded = json.loads((finished_run / "provenance.json").read_text())["data"]
    order = numpy_generator(42, "order", 0).permutation(recorded["splits"]["train"]["num_samples"])
    assert recorded["order_sha256"] == fingerprint(order)


def test_open_number_of_threads_is_resolved_once_and_kept(tmp_path: Path) -> None:
    overrides = (*TINY, f"output_dir={tmp_path}", "run_id=named", "num_threads=null")
    torch.set_num_threads(2)
    run = train(compose(*overrides))
    assert ExperimentConfig.load(run / "config.json").num_threads == 2
    torch.set_num_threads(1)
    assert train(compose(*overrides)) == run  # not another config


@pytest.fixture
def default_handlers() -> Iterator[None]:
    """Have signals do what they do in a process that nothing has prepared, as `nohup` does."""
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGUSR2)}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_handlers")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_signal_saves_and_the_same_command_ends_with_the_same_bits(
    name: str, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = compose(*EVERYTHING, f"output_dir={tmp_path}", "run_id=stopped")
    step = Loop._train_step

    def signalled(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        step(self, microbatches)
        if self.step == 2:  # no checkpoint is due here
            os.kill(os.getpid(), signal.Signals[name])

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_step", signalled)
        with pytest.raises(Interrupted, match=name):
            train(composed)
    run = RunDirectory(tmp_path / "experiments" / "base" / "stopped")
    assert run.read_status()["status"] == "interrupted"
    assert read_checkpoint(run.last_checkpoint)["step"] == 2
    train(composed)
    assert [attempt["from_step"] for attempt in run.read_status()["attempts"]] == [0, 2]
    assert differences(run_facts(run.path), run_facts(reference)) == []


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_signal_that_is_ignored_or_has_a_handler_of_somebody_else_does_not_stop_a_run(name: str) -> None:
    number, received = signal.Signals[name], []
    previous = signal.getsignal(number)

    def handle(number: int, frame: object) -> None:
        received.append(number)

    try:
        # As `nohup` starts a program, and as submitit waits for its time limit.
        for handler, expected in ((signal.SIG_IGN, []), (handle, [number])):
            signal.signal(number, handler)
            with stopped_by_signals():
                with stopped_by_signals():
                    os.kill(os.getpid(), number)
                assert signal.getsignal(number) is handler
            assert received == expected
    finally:
        signal.signal(number, previous)


@pytest.fixture(scope="module")
def reference_of_everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the facts of a run in a process of its own that is left alone."""
    trial = Trial(tmp_path_factory.mktemp("whole"))
    assert trial.go() == 0
    return trial.facts()


def _interrupted(tmp_path: Path) -> Trial:
    trial = Trial(tmp_path)
    assert trial.go(Instant("step 10: forward pass of training", 1)) != 0
    names = {path.name for path in trial.directory.checkpoints.glob("*.pt")}
    assert names == {"best.pt", "epoch_001.pt", "last.pt"}
    return trial


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for position in range(middle, middle + 256):  # what lies between two tensors, and nobody reads, is shorter
        content[position] ^= 1
    path.write_bytes(content)


def test_damaged_last_checkpoint_is_set_aside_and_the_newest_whole_one_serves(
    reference_of_everything: dict[str, Any], tmp_path: Path
) -> None:
    trial = _interrupted(tmp_path)
    directory = trial.directory
    # The best checkpoint and that of the first epoch are both of step 6; the last is of step 9.
    _damage(directory.last_checkpoint)
    content = directory.last_checkpoint.read_bytes()
    assert trial.go() == 0
    assert directory.read_status()["attempts"][-1]["from_step"] == 6
    aside = directory.checkpoints / "last.pt.damaged"
    assert aside.read_bytes() == content
    assert "last.pt is damaged" in directory.train_log.read_text()
    aside.unlink()
    assert differences(trial.facts(), reference_of_everything) == []


def test_without_a_whole_checkpoint_nothing_is_overwritten(tmp_path: Path) -> None:
    directory = _interrupted(tmp_path).directory
    for path in directory.checkpoints.glob("*.pt"):
        _damage(path)
    before = {path: path.read_bytes() for path in directory.checkpoints.iterdir()}
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
        resume(directory.path)
    assert {path: path.read_bytes() for path in directory.checkpoints.iterdir()} == before
    assert directory.read_status()["status"] == "failed"


def test_complete_run_is_left_as_it_is(tmp_path: Path) -> None:
    overrides = (*TINY, f"output_dir={tmp_path}", "run_id=named")
    run = train(compose(*overrides))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")}
    assert train(compose(*overrides)) == run
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")} == before


def test_name_of_a_run_with_another_config_is_refused_with_all_differences(tmp_path: Path) -> None:
    overrides = (*TINY, f"output_dir={tmp_path}", "run_id=named")
    train(compose(*overrides))
    with pytest.raises(ConfigError) as refused:
        train(compose(*overrides, "seed=1", "training.batch_size=8"))
    assert [(problem.key, problem.message) for problem in refused.value.problems] == [
        ("seed", "42 there, 1 asked for"),
        ("training.batch_size", "32 there, 8 asked for"),
    ]


# The second run ends between two evaluations, with its best one at the end; the third at a checkpoint, too.
@pytest.mark.parametrize(
    ("ends", "longer"),
    [
        ("training.max_epochs=2", "training.max_epochs=4"),
        ("training.max_steps=7", "training.max_steps=18"),
        ("training.max_steps=9", "training.max_steps=10"),
        ("training.max_steps=1", "training.max_steps=2"),
    ],
)
def test_extended_run_is_the_longer_run_to_the_bit(ends: str, longer: str, tmp_path: Path) -> None:
    overrides = (*EVERYTHING, f"output_dir={tmp_path}", "training.max_epochs=3", "training/scheduler=constant")
    whole = train(compose(*overrides, longer))
    run = train(compose(*overrides, ends, "run_id=extended"))
    assert resume(run, [longer]) == run
    assert differences(run_facts(run), run_facts(whole)) == []


def test_changes_are_recorded_and_the_config_is_the_one_in_force(tmp_path: Path) -> None:
    run = RunDirectory(train(compose(*TINY, f"output_dir={tmp_path}")))
    resume(run.path, ["training.max_epochs=3", "training.checkpoint_every_epochs=1"])
    assert [attempt["changes"] for attempt in run.read_status()["attempts"]] == [
        [],
        [
            {"key": "callbacks.checkpoints.every_epochs", "from": None, "to": 1},  # which is taken from the next
            {"key": "training.checkpoint_every_epochs", "from": None, "to": 1},
            {"key": "training.max_epochs", "from": 2, "to": 3},
        ],
    ]
    assert (run.checkpoints / "epoch_003.pt").exists()
    assert ExperimentConfig.load(run.config).training.max_epochs == 3
    card = run.model_card.read_text()
    assert "`training.max_epochs` from `2` to `3`" in card


def test_run_carried_on_without_changes_needs_nothing_but_its_directory(tmp_path: Path) -> None:
    run = train(compose(*TINY, f"output_dir={tmp_path / 'before'}"))
    moved = (tmp_path / "before").rename(tmp_path / "after") / run.relative_to(tmp_path / "before")
    before = run_facts(moved)
    assert resume(moved) == moved
    assert resume(moved, ["data.num_workers=1"]) == moved
    assert run_facts(moved) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_epoch=3", r"training\.max_epoch: unknown; did you mean `training\.max_epochs`"),
        ("training.max_epochs=many", r"training\.max_epochs: expected an integer"),
        ("run_id=other", "run_id: says where the run lies"),
        ("callbacks.progress.second=1", r"callbacks\.progress\.second: .*did you mean `callbacks\.progress\.seconds`"),
    ],
)
def test_change_that_cannot_be_made_leaves_the_run_as_it_was(override: str, message: str, finished_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with pytest.raises(ConfigError, match=message):
        resume(finished_run, [override])
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_mistake_found_while_building_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.num_groups"):
        train(compose(*TINY, f"output_dir={tmp_path / 'outputs'}", "model.num_groups=3"))
    assert list(tmp_path.iterdir()) == []


def test_mistake_leaves_earlier_runs_alone(train_tiny: TrainTiny, tmp_path: Path) -> None:
    run = train_tiny("run_id=first")
    with pytest.raises(InputError, match=r"model\.num_groups"):
        train_tiny("model.num_groups=3")
    assert list((tmp_path / "experiments" / "base").iterdir()) == [run]


def test_loss_that_is_not_finite_fails_the_run_and_says_so(train_tiny: TrainTiny, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"training loss is nan at step \d+"):
        train_tiny("run_id=failing", "training.learning_rate=1e30", "training.gradient_clip=null")
    run = RunDirectory(tmp_path / "experiments" / "base" / "failing")
    assert run.read_status()["status"] == "failed"
    assert "NonFiniteError" in run.read_status()["reason"]
    assert "Traceback" in run.train_log.read_text()
    assert "NaN" not in run.metrics_log.read_text()


def test_callback_that_fails_at_the_end_never_makes_a_run_complete(
    train_tiny: TrainTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("reprise.tools.model_card.callback.ModelCard.on_run_end", failing)
    with pytest.raises(NonFiniteError):
        train_tiny("run_id=one", "training.learning_rate=1e30", "training.gradient_clip=null")
    status = RunDirectory(tmp_path / "experiments" / "base" / "one").read_status()
    assert status["status"] == "failed"
    assert status["reason"].startswith("NonFiniteError")
    assert "missing" not in status


def test_callback_that_did_not_start_hears_nothing_of_the_end(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("reprise.runs.persisters.run_layout.RunLayout.on_run_start", failing)
    with pytest.raises(OSError, match="no space left"):
        train_tiny("tracker=tensorboard")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the run failed: no space left"
    ]


def test_run_that_failed_after_training_finishes_without_training_again(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = compose(*EVERYTHING, f"output_dir={tmp_path}", "run_id=named")

    def failing(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("reprise.runs.attempt.write_results", failing)
        with pytest.raises(OSError, match="no space left"):
            train(composed)
        patch.undo()
        patch.setattr(Loop, "_train_step", failing)
        run = train(composed)
    assert differences(run_facts(run), run_facts(reference)) == []


def test_results_are_those_of_the_best_checkpoint(reference: Path) -> None:
    run = RunDirectory(reference)
    lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    evaluations = [line for line in lines if "val/loss" in line["metrics"]]
    best = min(evaluations, key=lambda line: line["metrics"]["val/loss"])
    results = json.loads(run.metrics.read_text())
    assert (results["epoch"], results["step"]) == (best["epoch"], best["step"])
    assert results["validation_metrics"].items() <= best["metrics"].items()
    state = read_checkpoint(run.best_checkpoint)
    assert results["weights_sha256"] == content_hash(state["model_state_dict"])


def test_metrics_file_has_one_line_a_step_in_order(reference: Path) -> None:
    lines = [json.loads(line) for line in (reference / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.keys() == {"timestamp", "epoch", "step", "metrics"} for line in lines)


def test_log_is_written_and_no_handler_is_left(train_tiny: TrainTiny) -> None:
    before = list(logging.getLogger().handlers)
    logging.getLogger().setLevel(logging.INFO)
    run = train_tiny()
    assert "run directory" in (run / "logs" / "train.log").read_text()
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_repeats_to_the_bit_and_has_bits_of_its_own(
    precision: str, reference: Path, tmp_path: Path
) -> None:
    overrides = (*EVERYTHING, f"training.precision={precision}")
    first, second = (train(compose(*overrides, f"output_dir={tmp_path}")) for _ in range(2))
    assert differences(run_facts(first), run_facts(second)) == []
    assert weights(first) != weights(reference)
