import pytest
import torch
from torch import nn

from reprise.optimizers import parameter_groups


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
