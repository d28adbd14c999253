"""Means count every item once, also where a batch, a microbatch, a share, a step or a split has none."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import differences
from shared_runs import Shared, config, share
from tiny_loop import (
    Net,
    Regression,
    end,
    make_loop,
    make_run,
    make_split,
    masked,
    one_step,
    score,
    weights_hash,
)
from tiny_parts import write_data
from torch import Tensor, nn

from reprise.callbacks.anomalies import Anomalies
from reprise.callbacks.one_batch import OneBatch
from reprise.data import TensorSplit, count_labels, counter_of
from reprise.errors import Failure, InputError, NotLearned
from reprise.files.content_hash import content_hash
from reprise.metrics import ClassificationMetrics
from reprise.models import ModelOutput
from reprise.optimization.schedules import ConstantSchedule, LinearSchedule
from reprise.randomness import numpy_generator
from reprise.runs.checkpoint import load_checkpoint, save_checkpoint

SGD = torch.optim.SGD


class OwnMean(Net):
    """Divides the sum of losses by their number itself: of none the gradients are no numbers either."""

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.linear(self.dropout(inputs))
        if labels is None:
            return ModelOutput(logits)
        losses = nn.functional.cross_entropy(logits, labels.clamp(min=0), reduction="none")
        is_counted = (labels != -100).float()
        return ModelOutput(logits, (losses * is_counted).sum() / is_counted.sum())


class Normed(OwnMean):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return super().forward(self.norm(inputs), labels)


def without_step(step: int, num_samples: int, samples_per_step: int) -> TensorSplit:
    """Return a split of which the samples of one step, from 1, of the first epoch are masked."""
    order = numpy_generator(0, "order", 0).permutation(num_samples)
    gone = order[(step - 1) * samples_per_step : step * samples_per_step].tolist()
    return masked(num_samples, [sample for sample in range(num_samples) if sample not in gone])


def test_only_labels_that_are_integers_can_be_masked() -> None:
    assert count_labels({"labels": torch.tensor([1, -100, 2])}) == 2
    assert count_labels({"labels": torch.tensor([[-100, -100]])}) == 0
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert count_labels({"labels": torch.tensor([1.0, -100.0, 2.0], dtype=dtype)}) == 3
    assert count_labels({"inputs": torch.zeros(5, 3)}) == 5  # the loss of an autoencoder has no labels


def test_what_augments_a_batch_may_mask_its_labels() -> None:
    columns = make_split(4).columns
    plain, augmented = TensorSplit(columns), TensorSplit(columns, augment=lambda batch, draws: batch)
    masked_batch = {"labels": torch.tensor([1, -100])}
    assert counter_of(plain, count_labels)({"labels": torch.tensor([1, 2])}) == 2
    assert counter_of(augmented, count_labels)(masked_batch) == 1
    assert counter_of(TensorSplit({"inputs": torch.zeros(4, 2)}), count_labels)({"inputs": torch.zeros(4, 2)}) == 4


@pytest.mark.parametrize("gradient_accumulation", [1, 2])
def test_a_regression_target_of_minus_100_counts(gradient_accumulation: int) -> None:
    inputs, targets = make_split(8).columns["inputs"], torch.linspace(-1, 1, 8)
    targets[:4] = -100.0
    loop = make_loop(
        model=Regression(),
        split=TensorSplit({"inputs": inputs, "labels": targets}),
        batch_size=8 // gradient_accumulation,
        gradient_accumulation=gradient_accumulation,
        optimizer=SGD,
        schedule=ConstantSchedule,
        learning_rate=1e-4,
        max_steps=1,
        scores=lambda: {"val/loss": 1.0},
    )
    with torch.no_grad():
        expected = loop.model(inputs, targets).loss.item()
    loop.run()
    assert loop.metrics["train/loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", [Net, OwnMean])
@pytest.mark.parametrize("valid", [[3], [3, 11], [0, 1, 2, 3, 4, 5, 19]])
@pytest.mark.parametrize("options", [{}, {"gradient_clip": 0.1}, {"on_nonfinite": "skip"}])
def test_samples_in_microbatches_of_which_some_have_no_item_give_the_step_of_one_batch(
    model: type[Net], valid: list[int], options: dict[str, Any]
) -> None:
    def step(batch_size: int, gradient_accumulation: int) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        return one_step(batch_size, gradient_accumulation, model=model(), split=masked(20, valid), **options)

    (whole, whole_loss), (parts, parts_loss) = step(20, 1), step(2, 10)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-5)


def test_a_microbatch_without_items_moves_running_statistics_as_others_do() -> None:
    loops = [
        make_loop(model=Normed(), split=split, batch_size=2, gradient_accumulation=2, max_steps=1, num_samples=4)
        for split in (masked(4, [0, 1, 2, 3]), masked(4, [int(numpy_generator(0, "order", 0).permutation(4)[0])]))
    ]
    for loop in loops:
        loop.run()
    first, second = (loop.model.norm for loop in loops)
    assert torch.equal(first.running_mean, second.running_mean)
    assert torch.equal(first.running_var, second.running_var)


@pytest.mark.parametrize("model", [Net, Normed])
@pytest.mark.parametrize("options", [{}, {"on_nonfinite": "skip", "gradient_clip": 1.0}])
@pytest.mark.parametrize("gradient_accumulation", [1, 2])
def test_a_step_without_items_changes_nothing_and_is_counted(
    model: type[Net], options: dict[str, Any], gradient_accumulation: int, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(
        model=model(),
        split=without_step(2, 12, 4),
        batch_size=4 // gradient_accumulation,
        gradient_accumulation=gradient_accumulation,
        max_epochs=1,
        schedule=LinearSchedule,
        learning_rate=0.3,
        **options,
    )
    states = [content_hash([loop.model.state_dict(), loop.optimizer.state_dict()["state"]])]
    rates, losses = [], []

    def note() -> None:
        states.append(content_hash([loop.model.state_dict(), loop.optimizer.state_dict()["state"]]))
        rates.append(loop.scheduler.get_last_lr()[0])
        losses.append(loop.loss)

    loop._events.step_end = note
    loop.run()
    assert [states[i] == states[i - 1] for i in (1, 2, 3)] == [False, True, False]
    assert rates == pytest.approx([0.2, 0.1, 0.0], abs=1e-12)
    assert losses[1] is None
    assert loop.metrics["train/skipped_steps"] == 1.0
    assert loop.metrics["train/loss"] == pytest.approx((float(losses[0]) + float(losses[2])) / 2, rel=1e-6)
    assert "skipped: step 2 has no item to train on: all labels are masked in the samples" in caplog.text
    assert "learning_rate" not in caplog.text


def test_a_run_without_a_step_that_is_skipped_logs_no_number_of_them() -> None:
    loop = make_loop(max_epochs=1)
    loop.run()
    assert "train/skipped_steps" not in loop.metrics


def test_where_no_step_has_an_item_there_is_no_training_loss() -> None:
    loop = make_loop(split=masked(10, []), max_epochs=1)
    before = weights_hash(loop)
    loop.run()
    assert weights_hash(loop) == before
    assert "train/loss" not in loop.metrics
    with pytest.raises(Failure, match=r"train/loss is not known at step 3: .* since none had an item to train on"):
        make_loop(split=masked(10, []), max_epochs=1, monitor="train/loss").run()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("gradient_accumulation", [1, 2])
def test_a_run_that_is_cut_beside_a_step_without_items_carries_on_to_the_same_bits(
    tmp_path: Path, num_steps: int, gradient_accumulation: int
) -> None:
    def made() -> Any:
        torch.manual_seed(0)
        return make_loop(
            model=OwnMean(dropout=0.3),
            split=without_step(2, 14, 3 * gradient_accumulation),
            batch_size=3,
            gradient_accumulation=gradient_accumulation,
            eval_every_steps=3,
        )

    whole, first, second = made(), made(), made()
    whole.run()
    first._events.step_end = lambda: first.interrupt("test") if first.step == num_steps else None
    first.run()
    path = tmp_path / "last.pt"
    state = {"loop_state": first.state_dict()}
    save_checkpoint(first.model, first.optimizer, first.scheduler, 1, first.step, {}, {}, path, state)
    state = load_checkpoint(path, second.model, second.optimizer, second.scheduler)
    second.load_state_dict(state["loop_state"])
    second.run()
    assert weights_hash(second) == weights_hash(whole)
    assert content_hash(second.state_dict()) == content_hash(whole.state_dict())
    assert [*first._events.evaluations, *second._events.evaluations] == whole._events.evaluations
    assert whole.metrics["train/skipped_steps"] >= 1.0


def test_of_a_split_without_items_there_are_no_scores(caplog: pytest.LogCaptureFixture) -> None:
    assert score(Net(), masked(7, [])) == {}
    assert "the split val has no item to score: its metrics are left out" in caplog.text
    some = score(OwnMean(), masked(7, [0, 6]))  # the second of three batches has none
    assert set(some) == {"val/loss", *(f"val/{name}" for name in ClassificationMetrics.names)}
    assert all(map(math.isfinite, some.values()))


def test_a_monitored_metric_of_a_split_without_items_is_told_so() -> None:
    loop = make_loop(scores=dict)
    with pytest.raises(InputError, match=r"training\.monitor: 'val/loss' .* the split 'val' has no item to score"):
        loop.run()


@pytest.mark.parametrize("gradient_accumulation", [1, 2])
def test_what_looks_for_numbers_that_are_not_finite_passes_over_batches_without_items(
    tmp_path: Path, gradient_accumulation: int
) -> None:
    model = OwnMean()
    order = numpy_generator(0, "order", 0).permutation(4).tolist()
    run = make_run(
        tmp_path,
        {"anomalies": Anomalies()},
        model=model,
        split=masked(4, order[:2]),
        batch_size=2,
        gradient_accumulation=gradient_accumulation,
        max_epochs=1,
        scores=lambda: score(model, masked(7, [0, 6]), metrics={}),
    )
    run.loop.run()
    end(run)
    assert run.loop.finished
    assert set(run.loop.metrics) >= {"train/loss", "val/loss"}


@pytest.mark.parametrize("count", [np.int64, torch.tensor, float])
def test_items_may_be_counted_with_numbers_of_any_kind(count: Any) -> None:
    def trained(count_items: Any) -> tuple[str, dict[str, float]]:
        loop = make_loop(count_items=count_items, gradient_accumulation=2)
        loop.run()
        assert all(type(value) in (int, float) for value in loop.metrics.values())
        return weights_hash(loop), loop.metrics

    assert trained(lambda batch: count(len(batch["labels"]))) == trained(count_labels)


def test_one_batch_without_items_is_told_in_place_of_its_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"one_batch": OneBatch()}, split=masked(4, []), batch_size=4, max_steps=2)
    with pytest.raises(NotLearned, match="it has no loss, since every step was skipped"):
        run.loop.run()
    end(run, "failed")


class Masking(nn.Module):
    """Divides by the number of labels itself, as `OwnMean`; for runs that processes share."""

    def __init__(self, dropout: float, has_norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(64, 12)
        self.norm = nn.BatchNorm1d(12) if has_norm else nn.Identity()
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(12, 3)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = self.norm(self.first(inputs))
        for layer in self.layers:
            hidden = torch.tanh(layer(self.dropout(hidden)))
        logits = self.last(hidden)
        if labels is None:
            return ModelOutput(logits)
        is_counted = (labels != -100).float()
        losses = nn.functional.cross_entropy(logits.float(), labels.clamp(min=0), reduction="none")
        return ModelOutput(logits, (losses * is_counted).sum() / is_counted.sum())


def shared(num: int, output: Path, **changes: Any) -> Shared:
    """Train with `num` processes on data of which one step and some microbatches have no items, nor half of `val`."""
    output.mkdir(parents=True, exist_ok=True)
    data = write_data(output / "points.json")
    splits = json.loads(data.read_text())
    order = numpy_generator(42, "order", 0).permutation(70)
    # Of 16 samples a step in 4 microbatches: step 2 has no item, step 3 only in its third microbatch.
    for sample in [*order[16:32], *order[32:40], *order[44:48]]:
        splits["train"]["labels"][sample] = -100
    splits["val"]["labels"][8:] = [-100] * 8
    data.write_text(json.dumps(splits))
    model = {"_target_": "test_items.Masking", "name": "masking", "dropout": 0.1}
    trusted = ["tiny_parts", "test_items"]
    made = share(
        num, config(output, **({"model": model, "trusted_packages": trusted, "training__max_epochs": 2} | changes))
    )
    assert not any(made.codes), made.said
    return made


def log_of(run: Shared) -> list[dict[str, float]]:
    return [json.loads(line)["metrics"] for line in run.run.metrics_log.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return shared(1, tmp_path_factory.mktemp("alone"))


def test_one_process_counts_the_step_without_items(alone: Shared) -> None:
    lines = log_of(alone)
    assert "train/step_loss" not in lines[1]
    assert next(line["train/skipped_steps"] for line in lines if "train/loss" in line) == 1.0
    assert "step 2 has no item to train on" in alone.said


def test_two_processes_of_which_one_has_no_items_end_with_the_bytes_of_one(alone: Shared, tmp_path: Path) -> None:
    two = shared(2, tmp_path)
    assert differences(two.facts, alone.facts) == []
    assert two.said.count("step 2 has no item to train on") == 1


@pytest.mark.long
def test_four_processes_without_items_end_with_the_bytes_of_one_where_the_sum_is_ordered(tmp_path: Path) -> None:
    runs = {num: shared(num, tmp_path / str(num), training__reduction="ordered") for num in (1, 4)}
    assert differences(runs[4].facts, runs[1].facts) == []


@pytest.mark.long
def test_a_sharded_model_takes_microbatches_without_items(tmp_path: Path) -> None:
    descent = {
        "training__optimizer": {"_target_": "reprise.optimization.optimizers.SGD"},
        "training__gradient_clip": None,
    }
    one = shared(1, tmp_path / "one", **descent)
    sharded = shared(2, tmp_path / "sharded", training__parallel="fsdp", **descent)
    for found, expected in zip(log_of(sharded), log_of(one), strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
