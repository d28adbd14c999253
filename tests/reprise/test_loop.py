import itertools
import math

import pytest
import torch
from tiny_loop import RecordedEvents, make_loop, make_split, masked, one_step, validate, weights_hash

from reprise.data import TensorSplit
from reprise.errors import NonFiniteError
from reprise.files.content_hash import content_hash
from reprise.optimization.schedules import ConstantSchedule
from reprise.runs.checkpoint import load_checkpoint, save_checkpoint
from reprise.runs.cost import num_samples_seen
from reprise.training.cadence import num_steps_per_epoch, num_total_steps
from reprise.training.loop import Best

SGD = torch.optim.SGD


def scripted(values):
    """Return an `evaluate` that gives these validation losses one after the other."""
    iterator = iter(values)
    return lambda: {"val/loss": next(iterator)}


def record_batch_sizes(loop):
    sizes = []
    loop.model.register_forward_pre_hook(
        lambda module, arguments, keywords: sizes.append(len(keywords["inputs"])) if module.training else None,
        with_kwargs=True,
    )
    return sizes


def test_events_come_in_the_documented_order():
    loop = make_loop(max_epochs=2, eval_every_steps=2)  # three steps an epoch
    loop.run()
    step, evaluation, epoch_end = ["step_end", "commit"], ["step_end", "eval_end", "commit"], ["epoch_end", "commit"]
    expected = [
        *[("epoch_start", 0), *((name, 1) for name in step), *((name, 2) for name in evaluation)],
        *[("step_end", 3), ("eval_end", 3), *((name, 3) for name in epoch_end)],
        *[("epoch_start", 3), *((name, 4) for name in evaluation), *((name, 5) for name in step)],
        *[("step_end", 6), ("eval_end", 6), *((name, 6) for name in epoch_end)],
    ]
    assert loop._events.seen == expected


def test_steps_of_an_epoch_and_of_a_run_are_counted_up():
    assert [num_steps_per_epoch(n, 3) for n in (1, 2, 3, 4, 6, 7)] == [1, 1, 1, 2, 2, 3]
    assert (num_total_steps(3, 4, None), num_total_steps(3, 4, 7), num_total_steps(3, 4, 99)) == (12, 7, 12)


def test_epochs_count_from_one_and_belong_to_the_step_that_was_done():
    loop = make_loop(max_epochs=3)
    epochs = []
    loop._events.step_end = lambda: epochs.append(loop.epoch)
    loop.run()
    assert epochs == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_two_microbatches_of_unequal_size_give_the_gradient_of_the_whole_batch():
    def step(batch_size, gradient_accumulation):
        loop = make_loop(
            num_samples=6,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            max_epochs=1,
            optimizer=SGD,
            schedule=ConstantSchedule,
        )
        before = loop.model.linear.weight.detach().clone()
        loop.run()
        assert loop.step == 1
        return loop.model.linear.weight.detach() - before, loop.loss

    whole, whole_loss = step(6, 1)
    parts, parts_loss = step(4, 2)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(parts_loss, whole_loss, rtol=1e-6, atol=0)
    assert whole.abs().min() > 1e-4


def test_what_counts_in_accumulation_are_labels_not_rows():
    split = masked(8, [1, 2, 4, 5, 7])
    (whole, whole_loss), (parts, parts_loss) = one_step(8, 1, split=split), one_step(3, 3, split=split)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-6)


def test_a_step_never_reaches_over_the_end_of_an_epoch():
    loop = make_loop(num_samples=10, batch_size=2, gradient_accumulation=2, max_epochs=2)
    sizes = record_batch_sizes(loop)
    per_step = []
    loop._events.step_end = lambda: (per_step.append(sum(sizes)), sizes.clear())
    loop.run()
    assert per_step == [4, 4, 2, 4, 4, 2]
    seen = [num_samples_seen(step, 10, loop.steps_per_epoch, 4) for step in range(7)]
    assert seen == [0, *itertools.accumulate(per_step)]


def test_every_sample_is_seen_once_an_epoch():
    loop = make_loop(num_samples=10, batch_size=4, max_epochs=2)
    seen = []
    loop.model.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.extend(keywords["inputs"].tolist()) if module.training else None,
        with_kwargs=True,
    )
    loop.run()
    everything = sorted(make_split(10).columns["inputs"].tolist())
    assert sorted(seen[:10]) == sorted(seen[10:]) == everything
    assert seen[:10] != seen[10:]


def test_max_steps_ends_in_the_middle_of_an_epoch_with_an_evaluation():
    loop = make_loop(max_epochs=5, max_steps=4)
    loop.run()
    assert (loop.step, loop.epoch, loop.finished) == (4, 2, True)
    names = ["step_end", "commit", "eval_end", "epoch_end", "commit"]
    assert loop._events.seen[-5:] == [(name, 4) for name in names]
    assert loop.optimizer.param_groups[0]["lr"] == 0.0


def test_train_loss_is_the_exact_mean_over_samples_since_the_evaluation_before():
    loop = make_loop(max_epochs=2, learning_rate=0.0, schedule=ConstantSchedule, eval_every_steps=2)
    split = make_split(10).columns
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(
            loop.model(split["inputs"]).logits, split["labels"], reduction="none"
        )
    loop.run()
    order = [index for epoch in range(2) for index in loop._batches.order(epoch)]
    bounds = [0, 8, 10, 14, 20]  # samples seen at steps 2, 3 (end of the epoch), 4 and 6
    expected = [losses[order[first:last]].double().mean().item() for first, last in itertools.pairwise(bounds)]
    assert [m["train/loss"] for m in loop._events.evaluations] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "values", "epoch"),
    [
        ("min", [3.0, 1.0, 1.0, 2.0], 2),
        ("max", [1.0, 3.0, 2.0, 3.0], 2),
        ("min", [0.0, 0.0, 0.0, 0.0], 1),
        ("max", [1.0, 2.0, 3.0, 4.0], 4),
    ],
)
def test_best_is_the_first_of_equals(mode, values, epoch):
    loop = make_loop(max_epochs=4, monitor_mode=mode, scores=scripted(values))
    loop.run()
    assert loop.best == Best(values[epoch - 1], epoch, 3 * epoch, "val/loss", mode)


def test_any_metric_can_choose_the_best():
    loop = make_loop(max_epochs=3, monitor="val/accuracy", monitor_mode="max")
    loop.run()
    accuracies = [m["val/accuracy"] for m in loop._events.evaluations]
    assert loop.best.value == max(accuracies)
    assert loop.best.epoch == accuracies.index(max(accuracies)) + 1


@pytest.mark.parametrize(("num_steps", "num_workers"), [(0, 0), (1, 0), (3, 0), (4, 0), (4, 2), (5, 0)])
def test_a_loop_carries_on_from_a_checkpoint_to_the_same_bits(tmp_path, num_steps, num_workers):
    """In the middle of an epoch and of the sums between two evaluations; `test_train` tests whole runs."""
    options = {
        "num_samples": 14,
        "batch_size": 3,
        "gradient_accumulation": 2,
        "dropout": 0.3,
        "eval_every_steps": 2,
        "gradient_clip": 0.5,
    }
    whole = make_loop(**options)
    whole.run()

    first = make_loop(**options)
    first._events.step_end = lambda: first.interrupt("test") if first.step == num_steps else None
    if num_steps:
        first.run()
        assert (first.step, first.finished) == (num_steps, False)
    path = tmp_path / "last.pt"
    state = {"loop_state": first.state_dict()}
    save_checkpoint(first.model, first.optimizer, first.scheduler, 1, first.step, {}, {}, path, state)

    second = make_loop(num_workers=num_workers, **options)
    state = load_checkpoint(path, second.model, second.optimizer, second.scheduler)
    second.load_state_dict(state["loop_state"])
    second.run()
    assert weights_hash(second) == weights_hash(whole)
    assert content_hash(second.optimizer.state_dict()) == content_hash(whole.optimizer.state_dict())
    assert content_hash(second.state_dict()) == content_hash(whole.state_dict())
    evaluations = [*first._events.evaluations, *second._events.evaluations]
    assert evaluations == whole._events.evaluations
    assert second.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


def test_a_loop_that_carries_on_announces_no_epoch_twice():
    first = make_loop()
    first._events.step_end = lambda: first.interrupt("test") if first.step == 2 else None
    first.run()
    second = make_loop()
    second.load_state_dict(first.state_dict())
    second.run()
    starts = [step for name, step in first._events.seen + second._events.seen if name == "epoch_start"]
    assert starts == [0, 3]


class DrawingEvents(RecordedEvents):
    def _record(self, name: str) -> None:
        torch.rand(3)
        torch.manual_seed(len(self.seen))
        super()._record(name)


def test_nothing_that_happens_between_steps_shifts_the_draws_of_the_model():
    quiet = make_loop(dropout=0.3)
    quiet.run()
    drawing = make_loop(dropout=0.3, events=DrawingEvents(), eval_every_steps=1)
    drawing.run()
    assert weights_hash(drawing) == weights_hash(quiet)


def test_each_microbatch_draws_its_own_dropout():
    split = TensorSplit({"inputs": torch.ones(80, 4), "labels": torch.zeros(80, dtype=torch.long)})
    loop = make_loop(split=split, batch_size=20, gradient_accumulation=2, dropout=0.5)
    masks = []
    loop.model.dropout.register_forward_hook(
        lambda module, arguments, output: masks.append(output) if module.training else None
    )
    loop.run()
    hashes = [content_hash(mask) for mask in masks]
    assert len(set(hashes)) == len(hashes) == 8


def test_an_evaluation_leaves_the_model_in_evaluation_mode_and_the_next_step_trains_it():
    loop = make_loop(eval_every_steps=1)
    modes = []
    loop.model.register_forward_pre_hook(lambda module, arguments: modes.append(module.training))
    loop.run()
    assert modes == [True, False, False, False] * 6


def test_what_is_logged_belongs_to_one_step():
    loop = make_loop(max_epochs=1)
    lines = []
    loop._events.step_end = lambda: loop.log({"mine": loop.step})
    loop._events.commit = lambda: lines.append(dict(loop.logged))
    loop.run()
    assert [line["mine"] for line in lines] == [1, 2, 3]
    assert [set(line) - {"mine"} for line in lines[:2]] == [set(), set()]
    assert {"train/loss", "val/loss", "val/accuracy"} < set(lines[2])
    assert loop.metrics == {name: value for name, value in lines[2].items() if name != "mine"}
    assert loop.logged == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_never_becomes_the_best(value):
    loop = make_loop(monitor_mode="max", scores=scripted([value]))
    with pytest.raises(NonFiniteError, match="val/loss is"):
        loop.run()
    assert loop.best is None


@pytest.mark.parametrize("event", ["step_end", "eval_end"])
def test_a_stop_ends_training_for_good_after_an_evaluation(event):
    loop = make_loop(max_epochs=3, eval_every_steps=2)
    last = 2 if event == "eval_end" else 4
    setattr(loop._events, event, lambda *_: loop.stop("enough") if loop.step == last else None)
    loop.run()
    assert (loop.step, loop.finished, loop.stop_reason) == (last, True, "enough")
    assert set(loop.metrics) == {"train/loss", *validate(loop.model)}
    other = make_loop(max_epochs=3, eval_every_steps=2)
    other.load_state_dict(loop.state_dict())
    other.run()
    assert other.step == last
    assert other._events.seen == []


def test_a_stop_between_two_evaluations_is_evaluated_too():
    loop = make_loop(max_epochs=3)
    loop._events.step_end = lambda: loop.stop("enough") if loop.step == 4 else None
    loop.run()
    assert loop.step == 4
    assert [step for name, step in loop._events.seen if name == "eval_end"] == [3, 4]
