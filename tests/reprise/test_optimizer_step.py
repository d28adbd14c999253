from functools import partial

import pytest
import torch
from tiny_loop import make_loop, weights_hash

from reprise.optimization.optimizers import AdamW
from reprise.optimization.schedules import ConstantSchedule, LinearSchedule

SGD = torch.optim.SGD


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
    assert weights_hash(divided) == weights_hash(loop)
    without = make_loop(**options | {"gradient_clip": None})
    without.run()
    assert weights_hash(without) != weights_hash(loop)


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
    assert weights_hash(first) == weights_hash(second)
    full = make_loop(max_epochs=4, gradient_clip=1.0)
    full.run()
    torch.testing.assert_close(first.model.linear.weight, full.model.linear.weight, rtol=0.05, atol=0.05)


def test_a_step_that_overflows_in_half_precision_is_skipped_and_the_scale_falls():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    half = partial(torch.autocast, "cpu", dtype=torch.float16)
    loop = make_loop(max_steps=1, gradient_clip=1.0, scaler=scaler, autocast=half)
    before = weights_hash(loop)
    loop.run()
    assert weights_hash(loop) == before
    assert scaler.get_scale() == 2.0**29
    other = make_loop(max_steps=1, scaler=torch.amp.GradScaler("cpu"))
    other.load_state_dict(loop.state_dict())
    assert other.state_dict()["scaler"] == loop.state_dict()["scaler"]
    assert other._scaler.get_scale() == 2.0**29


def test_a_scaled_loss_moves_no_bit_where_nothing_overflows():
    def trained(scaler):
        loop = make_loop(gradient_clip=0.5, optimizer=SGD, scaler=scaler)
        loop.run()
        return weights_hash(loop), loop.gradient_norm.item()

    # A scale that is a power of two changes exponents only, and clipping must see the gradients without it.
    assert trained(torch.amp.GradScaler("cpu", init_scale=2.0**10)) == trained(None)
