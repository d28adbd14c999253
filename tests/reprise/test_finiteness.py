import itertools
import math
import re

import pytest
import torch
from tiny_loop import make_loop, make_split, weights_hash

from reprise.data import TensorSplit
from reprise.errors import NonFiniteError
from reprise.optimization.schedules import LinearSchedule
from reprise.randomness import numpy_generator
from reprise.training.finiteness import numbers


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
    weights = [weights_hash(loop)]
    loop._events.step_end = lambda: weights.append(weights_hash(loop))
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
    assert weights_hash(stops) == weights_hash(skips)


def test_where_every_step_is_skipped_there_is_no_training_loss():
    split = TensorSplit({"inputs": torch.full((4, 4), math.nan), "labels": torch.zeros(4, dtype=torch.long)})
    loop = make_loop(split=split, on_nonfinite="skip", max_epochs=1)
    loop.run()
    assert "train/loss" not in loop.metrics
    with pytest.raises(NonFiniteError, match="train/loss is not known at step 1: all steps before it were skipped"):
        make_loop(split=split, on_nonfinite="skip", monitor="train/loss").run()


def test_losses_whose_sum_overflows_are_finite():
    loop = make_loop(max_steps=3)
    loop._events.step_end = lambda: loop._watch.note(loop.step, torch.tensor(1e308, dtype=torch.float64), None, 0.1, 0)
    loop.run()
    assert loop.step == 3


def test_numbers_are_those_of_the_tensors():
    assert numbers([]) == []
    assert numbers([torch.tensor(0.1), torch.tensor(3), torch.tensor(0.1, dtype=torch.float64)]) == [
        torch.tensor(0.1).item(),
        3.0,
        0.1,
    ]
