import itertools
import math
import re
from functools import partial

import pytest
import torch
from tiny_loop import RecordedEvents, make_loop, make_split, validate

from reprise.checkpoint import content_hash, load_checkpoint, save_checkpoint
from reprise.data import TensorSplit
from reprise.finiteness import NonFiniteError
from reprise.loop import Best, num_steps_per_epoch, num_total_steps
from reprise.optimizers import AdamW
from reprise.randomness import numpy_generator, restore_rng_state
from reprise.schedules import ConstantSchedule, LinearSchedule

SGD = torch.optim.SGD


def weights(loop):
    return content_hash(loop.model.state_dict())


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
    split = make_split(8)
    masked = split.columns["labels"].clone()
    masked[::3] = -100
    split = TensorSplit({"inputs": split.columns["inputs"], "labels": masked})

    def step(batch_size, gradient_accumulation):
        loop = make_loop(
            split=split,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            max_epochs=1,
            optimizer=SGD,
            schedule=ConstantSchedule,
        )
        loop.run()
        return loop.model.linear.weight.detach(), loop.metrics["train/loss"]

    (whole, whole_loss), (parts, parts_loss) = step(8, 1), step(3, 3)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    assert parts_loss == pytest.approx(whole_loss, rel=1e-6)


def test_a_step_never_reaches_over_the_end_of_an_epoch():
    loop = make_loop(num_samples=10, batch_size=2, gradient_accumulation=2, max_epochs=2)
    sizes = record_batch_sizes(loop)
    per_step = []
    loop._events.step_end = lambda: (per_step.append(sum(sizes)), sizes.clear())
    loop.run()
    assert per_step == [4, 4, 2, 4, 4, 2]
    seen = [loop.num_samples_seen(step, 10) for step in range(7)]
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
    assert loop.best == Best(values[epoch - 1], epoch, 3 * epoch)


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
    restore_rng_state(state)
    second.run()
    assert weights(second) == weights(whole)
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
    assert weights(drawing) == weights(quiet)


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


def test_the_norm_is_that_before_clipping_and_the_step_that_of_clipped_gradients():
    loop = make_loop(
        max_steps=1, gradient_clip=0.01, learning_rate=1.0, optimizer=SGD, schedule=ConstantSchedule, batch_size=10
    )
    before = [p.detach().clone() for p in loop.model.parameters()]
    loop.run()
    change = torch.cat([(p.detach() - b).ravel() for p, b in zip(loop.model.parameters(), before, strict=True)])
    assert change.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert loop.gradient_norm.item() > 0.1


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_a_step_of_clipped_gradients_is_that_of_divided_ones_whoever_divides(kind, monkeypatch):
    options = {"gradient_clip": 0.05, "optimizer": partial(kind, fused=True), "max_steps": 4}
    loop = make_loop(**options)
    loop.run()
    if kind is AdamW:
        monkeypatch.setattr(AdamW, "divide_gradients", lambda *_: False)
    divided = make_loop(**options)
    divided.run()
    assert weights(divided) == weights(loop)
    without = make_loop(**options | {"gradient_clip": None})
    without.run()
    assert weights(without) != weights(loop)


def test_without_a_clip_there_is_no_norm():
    loop = make_loop(max_steps=1)
    loop.run()
    assert loop.gradient_norm is None


def test_each_step_takes_the_rate_of_the_schedule():
    loop = make_loop(learning_rate=1.0, schedule=LinearSchedule, warmup_steps=2)
    used = []
    loop.optimizer.register_step_pre_hook(lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"]))
    loop.run()
    assert used == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


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


def test_a_loss_that_is_no_number_ends_the_run_and_says_where():
    split = TensorSplit({"inputs": torch.full((4, 4), math.nan), "labels": torch.zeros(4, dtype=torch.long)})
    with pytest.raises(NonFiniteError, match=r"training loss is nan at step 1, with learning rate 0\.1 and"):
        make_loop(split=split).run()


def poisoned(sample):
    """Return the training split with one sample that no loss can be computed of."""
    split = make_split(10)
    split.columns["inputs"][sample] = math.nan
    return split


def step_of(sample, accumulation):
    """Return the step, from 1, and the samples of the first step that meets a sample."""
    order = numpy_generator(0, "order", 0).permutation(10).tolist()
    batches = [order[i : i + 4] for i in range(0, 10, 4)]
    steps = [list(itertools.chain(*batches[i : i + accumulation])) for i in range(0, 3, accumulation)]
    return next((number, ids) for number, ids in enumerate(steps, 1) if sample in ids)


@pytest.mark.parametrize("sample", range(10))
@pytest.mark.parametrize("options", [{"gradient_clip": 1.0}, {}, {"gradient_accumulation": 2}])
def test_a_loss_that_is_no_number_is_told_with_the_first_step_its_samples_and_its_rate(sample, options):
    loop = make_loop(split=poisoned(sample), schedule=LinearSchedule, learning_rate=0.5, **options)
    step, ids = step_of(sample, options.get("gradient_accumulation", 1))
    rate = 0.5 * (1 - (step - 1) / loop.total_steps)
    shown = ", ".join(map(str, ids))
    told = f"training loss is nan at step {step}, with learning rate {rate:g} and the samples {shown} of"
    with pytest.raises(NonFiniteError, match=re.escape(told)):
        loop.run()


def overflow(loop, step):
    """Let the gradient of one step be infinite, although its loss is not."""
    loop.model.linear.weight.register_hook(lambda g: g * math.inf if loop.step + 1 == step else g)


def test_a_gradient_that_is_not_finite_is_told_with_its_step():
    loop = make_loop(gradient_clip=1.0)
    overflow(loop, 2)
    with pytest.raises(NonFiniteError, match=r"gradient norm is (inf|nan) at step 2, with"):
        loop.run()


def test_weights_that_are_not_finite_are_found_where_nothing_is_clipped():
    loop = make_loop()
    overflow(loop, 2)
    loop._events.commit = lambda: loop.check_finite(weights=True)
    with pytest.raises(NonFiniteError, match=r"a weight is (inf|nan) at step 2, with"):
        loop.run()


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_skipped_step_leaves_the_model_as_it_was_and_is_counted(fault, clip, caplog):
    options = {"split": poisoned(3)} if fault == "loss" else {}
    loop = make_loop(on_nonfinite="skip", gradient_clip=clip, max_epochs=1, **options)
    loop.model.register_buffer("seen", torch.zeros(()))
    loop.model.linear.register_forward_hook(lambda *_: (loop.model.seen.add_(1), None)[1])
    step = step_of(3, 1)[0] if fault == "loss" else 2
    if fault == "gradient":
        overflow(loop, 2)
    weights = [content_hash(loop.model.state_dict())]
    loop._events.step_end = lambda: weights.append(content_hash(loop.model.state_dict()))
    loop.run()
    assert [i for i in range(1, 4) if weights[i] == weights[i - 1]] == [step]
    assert loop.metrics["train/skipped_steps"] == 1.0
    assert all(map(math.isfinite, loop.metrics.values()))
    assert f"at step {step}, with learning rate" in caplog.text
    again = make_loop(on_nonfinite="skip")
    again.load_state_dict(loop.state_dict())
    assert again.num_skipped == 1


def test_a_run_that_skips_nothing_has_the_bits_of_one_that_would_stop():
    stops, skips = make_loop(gradient_clip=0.5), make_loop(gradient_clip=0.5, on_nonfinite="skip")
    for loop in (stops, skips):
        loop.run()
    assert content_hash(stops.model.state_dict()) == content_hash(skips.model.state_dict())


def test_where_every_step_is_skipped_there_is_no_training_loss():
    split = TensorSplit({"inputs": torch.full((4, 4), math.nan), "labels": torch.zeros(4, dtype=torch.long)})
    loop = make_loop(split=split, on_nonfinite="skip", max_epochs=1)
    loop.run()
    assert "train/loss" not in loop.metrics
    with pytest.raises(NonFiniteError, match="train/loss is not known at step 1: all steps before it were skipped"):
        make_loop(split=split, on_nonfinite="skip", monitor="train/loss").run()


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


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_training_in_lower_precision_keeps_weights_in_full_precision_and_repeats_to_the_bit(precision, dtype):
    def trained():
        loop = make_loop(
            max_epochs=4,
            gradient_clip=1.0,
            autocast=lambda: torch.autocast("cpu", dtype=dtype),
            scaler=torch.amp.GradScaler("cpu") if precision == "fp16" else None,
        )
        dtypes = set()
        loop.model.linear.register_forward_hook(
            lambda module, arguments, output: dtypes.add(output.dtype) if module.training else None
        )
        before = loop.model.linear.weight.detach().clone()
        loop.run()
        assert dtypes == {dtype}
        assert loop.model.linear.weight.dtype == torch.float32
        assert not torch.equal(loop.model.linear.weight, before)
        losses = [m["train/loss"] for m in loop._events.evaluations]
        assert losses[-1] < losses[0]
        return loop

    first, second = trained(), trained()
    assert weights(first) == weights(second)
    full = make_loop(max_epochs=4, gradient_clip=1.0)
    full.run()
    torch.testing.assert_close(first.model.linear.weight, full.model.linear.weight, rtol=0.05, atol=0.05)


def test_a_step_that_overflows_in_half_precision_is_skipped_and_the_scale_falls():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    half = partial(torch.autocast, "cpu", dtype=torch.float16)
    loop = make_loop(max_steps=1, gradient_clip=1.0, scaler=scaler, autocast=half)
    before = weights(loop)
    loop.run()
    assert weights(loop) == before
    assert scaler.get_scale() == 2.0**29
    other = make_loop(max_steps=1, scaler=torch.amp.GradScaler("cpu"))
    other.load_state_dict(loop.state_dict())
    assert other.state_dict()["scaler"] == loop.state_dict()["scaler"]
    assert other._scaler.get_scale() == 2.0**29


def test_a_scaled_loss_moves_no_bit_where_nothing_overflows():
    def trained(scaler):
        loop = make_loop(gradient_clip=0.5, optimizer=SGD, scaler=scaler)
        loop.run()
        return weights(loop), loop.gradient_norm.item()

    # A scale that is a power of two changes exponents only, and clipping must see the gradients without it.
    assert trained(torch.amp.GradScaler("cpu", init_scale=2.0**10)) == trained(None)
