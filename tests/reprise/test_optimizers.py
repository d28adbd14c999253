import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from reprise.files.content_hash import content_hash
from reprise.optimization.optimizers import SGD, AdamW
from reprise.optimization.parameter_groups import parameter_groups


def test_weights_are_decayed_and_vectors_are_not():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4), nn.Linear(4, 2))
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model[i].weight) for i in (0, 1, 3)]
    vectors = [model[1].bias, model[2].weight, model[2].bias, model[3].bias]
    assert [id(p) for p in kept["params"]] == [id(p) for p in vectors]


def test_each_trained_parameter_is_in_one_group_and_frozen_ones_in_none():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[2].requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted({id(p) for p in (model[0].weight, model[0].bias, model[1].bias)})


@pytest.mark.parametrize("model", [nn.Linear(2, 2, bias=False), nn.LayerNorm(2)])
def test_a_group_without_parameters_is_left_out(model):
    (group,) = parameter_groups(model, 0.1)
    assert len(group["params"]) == len(list(model.parameters()))
    torch.optim.AdamW([group])


def test_a_step_without_gradient_shrinks_the_weights_alone():
    model = nn.Linear(2, 2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.5), lr=0.1)
    (model(torch.ones(1, 2)) * 0).sum().backward()
    optimizer.step()
    assert torch.equal(model.weight.detach(), weight * (1 - 0.1 * 0.5))
    assert torch.equal(model.bias.detach(), bias)


def trained(kind, num_steps=4, before_step=lambda optimizer, step: None, **options):
    """Return the hash of weights and state after some steps on gradients that are the same for every optimizer."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    optimizer = kind(parameter_groups(model, 0.1), lr=0.01, **options)
    for step in range(num_steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        before_step(optimizer, step)
        optimizer.step()
    return content_hash([model.state_dict(), optimizer.state_dict()])


def leave_out_a_gradient(optimizer, step):
    if step == 2:
        optimizer.param_groups[1]["params"][0].grad = None


def load_own_state(optimizer, step):
    if step == 2:
        optimizer.load_state_dict(optimizer.state_dict())


def change_the_rate(optimizer, step):
    optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (AdamW, torch.optim.AdamW, {"fused": True}),
        (AdamW, torch.optim.AdamW, {"fused": True, "amsgrad": True}),
        (AdamW, torch.optim.AdamW, {"fused": True, "maximize": True}),
        (AdamW, torch.optim.AdamW, {"foreach": True}),
        (AdamW, torch.optim.AdamW, {"betas": (0.5, 0.9), "eps": 1e-3, "fused": True}),
        (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (SGD, torch.optim.SGD, {"fused": True}),
    ],
)
@pytest.mark.parametrize(
    "before_step", [lambda *_: None, leave_out_a_gradient, load_own_state, change_the_rate], ids=lambda f: f.__name__
)
def test_optimizers_are_those_of_torch_to_the_bit(ours, theirs, options, before_step):
    expected = trained(theirs, before_step=before_step, **options)
    assert trained(ours, before_step=before_step, **options) == expected
    assert trained(ours, before_step=lambda *_: None, num_steps=5, **options) != expected


def test_the_kernel_is_called_directly_and_hooks_are_called_all_the_same(monkeypatch):
    direct, calls = AdamW._step_directly, []
    monkeypatch.setattr(AdamW, "_step_directly", lambda *arguments: (calls.append("direct"), direct(*arguments)))
    plain = trained(AdamW, fused=True)
    assert calls == ["direct"] * 3  # the first step makes the state
    calls.clear()

    def observe(optimizer, step):
        if step == 2:
            optimizer.register_step_pre_hook(lambda *_: calls.append("hook"))

    assert trained(AdamW, fused=True, before_step=observe) == plain
    assert calls == ["direct", "hook", "hook"]


def divide_here(optimizer, step):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad /= 3 + step


def have_the_kernel_divide(optimizer, step):
    assert optimizer.divide_gradients(torch.tensor(3.0 + step))


def test_the_kernel_divides_gradients_as_it_reads_them_for_one_step():
    options = {"fused": True}
    divided = trained(AdamW, before_step=divide_here, **options)
    assert trained(AdamW, before_step=have_the_kernel_divide, **options) == divided
    for number in (0, 2):

        def once(divide, optimizer, step, number=number):
            if step == number:
                divide(optimizer, step)

        ways = [partial(once, divide) for divide in (divide_here, have_the_kernel_divide)]
        assert len({trained(AdamW, before_step=before_step, **options) for before_step in ways}) == 1
    assert divided != trained(AdamW, **options)


def test_a_kernel_that_cannot_divide_says_so():
    optimizer = AdamW([nn.Parameter(torch.ones(2))], lr=0.1, foreach=True)
    assert not optimizer.divide_gradients(torch.tensor(2.0))


def test_a_closure_gives_the_loss():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = AdamW([parameter], lr=0.1, fused=True)

    def closure():
        loss = parameter.sum()
        loss.backward()
        return loss.detach()

    assert [float(optimizer.step(closure)) for _ in range(2)] == [2.0, pytest.approx(1.8, abs=0.01)]


def test_an_overflow_in_half_precision_leaves_weights_and_counts_alone():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = AdamW([parameter], lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    counts = []
    for value in (1.0, torch.inf, 1.0):
        before = parameter.detach().clone()
        scaler.scale((parameter * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert torch.equal(parameter.detach(), before) == (value != 1.0)
        counts.append(float(optimizer.state[parameter]["step"]))
    assert counts == [1.0, 1.0, 2.0]


def test_an_optimizer_does_not_import_the_compiler():
    code = """
import sys, torch
from reprise.optimization.optimizers import SGD, AdamW
for kind in (SGD, AdamW):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = kind([parameter], lr=0.1, fused=True)
    for _ in range(2):
        parameter.grad = torch.ones(2)
        optimizer.step()
        optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
