"""Fails when a new version of torch takes away, or changes, a private name that the engine relies on."""

import torch
from torch import nn

from reprise.private_names.torch import (
    BatchNorm,
    NormBase,
    foreach_add_,
    foreach_div_,
    foreach_norm,
    fused_adamw_,
    has_step_hooks,
    unsaved_buffers,
)


def test_kernels_for_many_tensors_compute_what_they_are_used_for() -> None:
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([5.0])]
    assert [norm.item() for norm in foreach_norm(tensors)] == [5.0, 5.0]
    foreach_div_(tensors, torch.tensor(2.0))
    foreach_add_(tensors, 1.0)
    assert [tensor.tolist() for tensor in tensors] == [[2.5, 3.0], [3.5]]


def test_the_fused_kernel_makes_the_step_of_the_public_optimizer() -> None:
    mine, public = torch.ones(3), nn.Parameter(torch.ones(3))
    public.grad = torch.full((3,), 0.5)
    torch.optim.AdamW([public], lr=0.1, fused=True).step()
    fused_adamw_(
        [mine],
        [torch.full((3,), 0.5)],
        [torch.zeros(3)],
        [torch.zeros(3)],
        [],
        [torch.tensor(1.0)],
        lr=0.1,
        beta1=0.9,
        beta2=0.999,
        weight_decay=0.01,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )
    assert torch.equal(mine, public)


def test_batch_norms_of_all_kinds_share_a_base_class() -> None:
    assert all(issubclass(kind, NormBase) for kind in (nn.BatchNorm1d, nn.SyncBatchNorm, nn.InstanceNorm2d))


def test_an_observed_optimizer_is_recognised() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert not has_step_hooks(optimizer)
    before = optimizer.register_step_pre_hook(lambda *_: None)
    assert has_step_hooks(optimizer)
    before.remove()
    optimizer.register_step_post_hook(lambda *_: None)
    assert has_step_hooks(optimizer)


def test_every_batch_norm_has_the_class_of_batch_norms_alone() -> None:
    assert all(isinstance(norm, BatchNorm) for norm in (nn.BatchNorm1d(1), nn.BatchNorm3d(1), nn.SyncBatchNorm(1)))
    assert not isinstance(nn.InstanceNorm1d(1), BatchNorm)
    assert isinstance(nn.InstanceNorm1d(1), NormBase)


def test_buffers_that_no_state_dict_holds_are_known() -> None:
    module = nn.BatchNorm1d(2)
    module.register_buffer("table", torch.zeros(1), persistent=False)
    module.inner = nn.Module()
    module.inner.register_buffer("other", torch.zeros(1), persistent=False)
    assert unsaved_buffers(module) == ["table"]
