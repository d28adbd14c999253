"""The samples at the end of an epoch that fill no batch: left out where asked for, and seen where they would fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import differences
from odd_parts import OWN, part
from resumed_runs import RESUMED, copied, refused, resumed, stopped
from shared_runs import config, share
from tiny_runs import TINY, compose

from reprise.data import TensorSplit, stack
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.randomness import capture_rng_state, set_seed
from reprise.runs.building import build_task
from reprise.runs.checkpoint import plain, read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.tools.preflight import preflight
from reprise.training.loading import Batches
from reprise.training.step import OptimizerStep

NORMED = (OWN, part("model", "Normed"), "training.learning_rate=0.01")
LONE = (*NORMED, "training.batch_size=179")  # of 180 samples


def sizes_of_steps(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that the sizes of the microbatches of each step are added to."""
    call, sizes = OptimizerStep.__call__, list[list[int]]()

    def noting(self: OptimizerStep, step: int, microbatches: Any, num: int) -> None:
        sizes.append([len(batch["labels"]) for batch in microbatches])
        call(self, step, microbatches, num)

    monkeypatch.setattr(OptimizerStep, "__call__", noting)
    return sizes


def checks_of(run: Path) -> dict[str, str]:
    return {check.title: check.verdict for check in check_run(RunDirectory(run))}


def test_an_epoch_has_the_first_samples_of_its_order() -> None:
    split = TensorSplit({"index": torch.arange(10)})
    options: dict[str, Any] = {"batch_size": 4, "seed": 0, "purpose": "train", "shuffle": True}
    whole, cut = Batches(split, stack, **options), Batches(split, stack, **options, num_samples=8)
    assert (len(whole), len(cut), cut.steps_per_epoch) == (3, 2, 2)
    assert [b["index"].tolist() for b in cut] == [b["index"].tolist() for b in whole][:2]
    stream = cut.stream()
    for epoch in range(3):
        order = whole.order(epoch)[:8].tolist()
        assert next(stream)["index"].tolist() + next(stream)["index"].tolist() == order
        assert cut.samples_of_step(2 * epoch + 1) + cut.samples_of_step(2 * epoch + 2) == order
    shorter = Batches(split, stack, **options | {"batch_size": 6}, num_samples=8)  # as several microbatches may be cut
    assert [len(batch["index"]) for batch in shorter] == [6, 2]


@pytest.mark.parametrize(
    ("options", "expected", "num_seen"),
    [
        (("training.batch_size=64",), [[64], [64]], 128),
        (("training.batch_size=32", "training.gradient_accumulation=2"), [[32, 32], [32, 32], [32]], 160),
        (("training.batch_size=32", "training.num_microbatches=2"), [[16, 16]] * 5, 160),
    ],
)
def test_each_forward_pass_is_full_and_every_file_counts_so(
    options: tuple[str, ...],
    expected: list[list[int]],
    num_seen: int,
    train_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = sizes_of_steps(monkeypatch)
    run = train_tiny(*options, "training.drop_last=true", "training.log_every_steps=1")
    assert sizes == 2 * expected
    assert json.loads((run / "status.json").read_text())["attempts"][-1]["to_step"] == 2 * len(expected)
    checks = checks_of(run)
    assert (checks["Metrics logged"], checks["Config in force"]) == ("passed", "passed")
    assert "training.drop_last" in (run / "model_card.md").read_text("utf-8")
    cost = json.loads((run / "provenance.json").read_text())["cost"]
    assert cost["samples_per_second"] > 0
    loop_state = read_checkpoint(run / "checkpoints" / "last.pt")["loop_state"]
    assert loop_state["steps_per_epoch"] == len(expected)
    assert sum(map(sum, sizes)) == 2 * num_seen


def test_one_process_and_two_leave_out_the_same(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"training__drop_last": True, "training__max_epochs": 2}
    one, two = (share(num, config(tmp_path / str(num), **changes)) for num in (1, 2))
    assert (one.codes, two.codes) == ([0], [0, 0])
    assert read_checkpoint(two.run.last_checkpoint)["step"] == 8  # of 4 an epoch, where all 70 samples make 5
    assert differences(two.facts, one.facts) == []


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    drop = "training.drop_last=true"
    whole = RunDirectory(train(compose(*RESUMED, drop, f"output_dir={tmp_path / 'whole'}", "run_id=whole")))
    cut = stopped(tmp_path / "cut", 7, drop)
    resumed(cut)
    first, second = (read_checkpoint(run.last_checkpoint) for run in (whole, cut))
    assert first["step"] == second["step"] == 10
    assert content_hash(first["model_state_dict"]) == content_hash(second["model_state_dict"])


def test_what_is_left_of_an_epoch_cannot_be_left_out(tmp_path: Path) -> None:
    run = stopped(tmp_path, 11)
    message = refused(copied(run, tmp_path / "one"), "training.drop_last=true")
    assert "training.drop_last: all that is left of epoch 2 is what drop_last leaves out" in message


def test_a_split_that_fills_no_batch_is_told(tmp_path: Path) -> None:
    options = ("training.batch_size=181", "training.drop_last=true", f"output_dir={tmp_path}")
    told = r"training\.drop_last: the 180 samples of the training split do not fill one batch of .*batch_size=181"
    with pytest.raises(InputError, match=told):
        train(compose(*TINY, *options))
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(
    "options",
    [
        LONE,
        (*NORMED, "training.batch_size=358", "training.num_microbatches=2"),
        (*NORMED, "training.batch_size=179", "training.gradient_accumulation=2"),
    ],
)
def test_a_batch_of_one_sample_that_batch_norm_would_meet_is_told_before_training(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    composed = compose(*TINY, *options, f"output_dir={tmp_path}")
    told = r"^training\.drop_last: an epoch of 180 samples ends with a batch of one, .* \(training\.drop_last=true\)"
    with pytest.raises(InputError, match=told):
        train(composed)
    with pytest.raises(InputError, match=told):
        preflight(composed.config)
    assert not list(tmp_path.rglob("config.json"))


def test_batches_of_one_sample_throughout_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^training\.batch_size: each forward pass has one sample"):
        train(compose(*TINY, *NORMED, "training.batch_size=1", f"output_dir={tmp_path}"))


@pytest.mark.parametrize(
    "options",
    [
        (*LONE, "training.drop_last=true"),
        (*LONE, "training.max_steps=1"),  # the end of the epoch is never reached
        (*LONE, "training.overfit_batches=1"),
        (OWN, part("model", "NormedImages"), "training.batch_size=179"),  # an image has many values of each channel
        ("training.batch_size=179",),  # without batch norm
    ],
)
def test_a_run_that_no_lone_sample_troubles_goes_through(
    options: tuple[str, ...], train_tiny: Callable[..., Path]
) -> None:
    assert json.loads((train_tiny(*options) / "status.json").read_text())["status"] == "completed"


def test_trying_one_sample_leaves_no_trace() -> None:
    from reprise.runs.lone_samples import check_lone_samples

    set_seed(3)
    task = build_task(
        compose(*TINY, OWN, part("model", "NormedImages"), "training.batch_size=179").config, ["odd_parts"]
    )
    task.model.norm.eval()  # type: ignore[union-attr, operator]
    before = content_hash(plain(task.model.state_dict()))
    check_lone_samples(task)
    assert content_hash(plain(task.model.state_dict())) == before
    assert [module.training for module in task.model.modules()] == [True, True, False]
    assert capture_rng_state() is not None


def test_a_norm_that_nothing_has_seen_is_one_message_in_its_step(tmp_path: Path) -> None:
    """It calls torch's function itself, so that no module tells of it."""
    composed = compose(*TINY, OWN, part("model", "HiddenNorm"), "training.batch_size=179", f"output_dir={tmp_path}")
    told = (
        r"^training\.drop_last: the model has a batch norm .* got one in step 2; leave the last batch .*\n  in features"
    )
    with pytest.raises(InputError, match=told):
        train(composed)
    assert not list(tmp_path.rglob("config.json"))


def test_a_norm_that_cannot_score_one_sample_is_told_by_its_evaluation(tmp_path: Path) -> None:
    composed = compose(*TINY, OWN, part("model", "NormedByBatch"), "training.batch_size=89", f"output_dir={tmp_path}")
    with pytest.raises(InputError, match=r"^model: .* cannot score a batch of one sample in the evaluation after step"):
        train(composed)
