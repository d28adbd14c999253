"""Trains one model with several processes, on engines of PyTorch: DistributedDataParallel, or FSDP2.

Gradients are summed over processes, not averaged: the weights of the microbatches make the sum the mean over all items.
Imported only where there are several processes.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from reprise.models.evaluation_mode import state_kept
from reprise.training.ordered_sums import sum_in_order
from reprise.training.processes import Processes, Reduction
from reprise.training.running_statistics import norms_with_statistics
from reprise.training.spread import Spread, zero_gradient

Parallel = Literal["ddp", "fsdp"]

OnePass = Callable[[nn.Module], None]
"""Runs a model, as it is called in training, forward and backward on some batch of training."""

_KNOWS_FORWARD_SYNC = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_MAX_AT_ONCE = 2**23  # elements that are summed in order at once; DDP takes as many


def spread_model(
    model: nn.Module,
    processes: Processes,
    parallel: Parallel,
    reduction: Reduction,
    device: torch.device,
    one_pass: OnePass,
) -> Spread:
    """Make `model`, in place, one that all processes train together, and return how."""
    if parallel == "fsdp":
        return _Sharded(model, processes, device)
    if reduction == "ordered":
        return _Ordered(model, processes)
    return _Replicated(model, one_pass)


class _Replicated(Spread):
    """Every process has the whole model; gradients are summed in a ring while the backward pass goes on."""

    def __init__(self, model: nn.Module, one_pass: OnePass) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with state_kept(model):
            one_pass(model)
        unused = torch.tensor(sum(parameter.grad is None for parameter in parameters))
        distributed.all_reduce(unused)
        without_buffers: Any = {"forward_sync_buffers" if _KNOWS_FORWARD_SYNC else "broadcast_buffers": False}
        self._replicated = DistributedDataParallel(
            model, find_unused_parameters=bool(unused), gradient_as_bucket_view=True, **without_buffers
        )
        self._replicated.register_comm_hook(None, _sum_in_ring)
        # DDP arranges its buckets anew after its first pass. With three processes or more the first step after a
        # restart would be summed in another order than without one; so a pass that counts nothing comes first.
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = None
            with state_kept(model):
                one_pass(self._replicated)
        for parameter in parameters:
            parameter.grad = None
        self._buffers = _Buffers(model)
        super().__init__(self._replicated)

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if is_last else self._replicated.no_sync()

    def reduce(self) -> None:
        self._buffers.send()


def _sum_in_ring(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(_only_value)


def _only_value(future: torch.futures.Future[Any]) -> Tensor:
    value: Tensor = future.value()[0]
    return value


class _Ordered(Spread):
    """Every process has the whole model; gradients are summed after the backward pass, in the order of the processes.

    Each process receives its part of the gradients from all, sums it, and sends the sum to all: as many bytes as a ring
    takes, but not while the backward pass goes on.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        super().__init__(model)
        self._processes = processes
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with torch.no_grad():
            for parameter in model.parameters():
                distributed.broadcast(parameter, src=0)
        self._buffers = _Buffers(model)
        self._buffers.send()

    @torch.no_grad()
    def reduce(self) -> None:
        self._buffers.send()
        used = torch.tensor([parameter.grad is not None for parameter in self._parameters], dtype=torch.int32)
        distributed.all_reduce(used)
        group: list[Tensor] = []
        for parameter, is_used in zip(self._parameters, used.tolist(), strict=True):
            if not is_used:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            full = sum(gradient.numel() for gradient in group) + parameter.numel() > _MAX_AT_ONCE
            if group and (full or group[0].dtype != parameter.grad.dtype):
                self._sum(group)
                group = []
            group.append(parameter.grad)
        if group:
            self._sum(group)

    def _sum(self, gradients: list[Tensor]) -> None:
        size = self._processes.size
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        num = flat.numel()
        mine = nn.functional.pad(flat, (0, -num % size))
        received = torch.empty_like(mine)
        distributed.all_to_all_single(received, mine)
        part = sum_in_order(list(received.chunk(size)))
        total = self._processes.rows(part)[:num]
        sums = torch.split(total, [gradient.numel() for gradient in gradients])
        for gradient, values in zip(gradients, sums, strict=True):
            gradient.copy_(values.view_as(gradient))


class _Sharded(Spread):
    """Every process has a part of each parameter, of its gradient, and of the optimizer's state.

    A unit is an entry of a `ModuleList`, such as a layer of a transformer; the rest of the model is one more. States
    are those of the whole model: every process must ask for them, and give them back, together.
    """

    def __init__(self, model: nn.Module, processes: Processes, device: torch.device) -> None:
        mesh = init_device_mesh(device.type, (processes.size,))
        layers = [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]
        with torch.no_grad():
            for parameter in model.parameters():
                distributed.broadcast(parameter, src=0)
        for module in [*layers, model]:
            fully_shard(module, mesh=mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)
        self._model = model
        self._buffers = _Buffers(model)
        self._buffers.send()
        model.register_state_dict_post_hook(_whole_weights)  # type: ignore[no-untyped-call]
        model.register_load_state_dict_pre_hook(_sharded_weights)  # type: ignore[no-untyped-call]
        super().__init__(model)

    @contextlib.contextmanager
    def reducing(self, is_last: bool) -> Any:
        assert isinstance(self._model, FSDPModule)
        self._model.set_requires_gradient_sync(is_last)
        yield

    @contextlib.contextmanager
    def without_gradients(self) -> Any:
        """As in `Spread`. Gradients are those of whole parameters, which a unit has in its own passes only."""
        hooks: list[Any] = []

        def add_hooks(unit: nn.Module, _: object) -> None:
            whole_ones = [p for p in unit.parameters() if p.requires_grad and not isinstance(p, DTensor)]
            hooks.extend(map(zero_gradient, whole_ones))

        units = [module for module in self._model.modules() if isinstance(module, FSDPModule)]
        hooks.extend(unit.register_forward_pre_hook(add_hooks) for unit in units)
        try:
            with torch.autograd.set_detect_anomaly(False):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def reduce(self) -> None:
        self._buffers.send()


def share_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Make the state of the optimizer of a sharded model that of the whole one."""
    optimizer.register_state_dict_post_hook(_whole_state)
    optimizer.register_load_state_dict_pre_hook(_sharded_state)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor of which every process has a part as a whole one, on the host."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def _whole_weights(model: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    for name, tensor in state.items():
        state[name] = whole(tensor)


def _sharded_weights(model: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in state and not isinstance(state[name], DTensor):
            state[name] = _as(state[name], parameter)


def _whole_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    states = {
        number: {name: whole(value) if isinstance(value, Tensor) else value for name, value in of_parameter.items()}
        for number, of_parameter in state["state"].items()
    }
    return {**state, "state": states}


def _sharded_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = {
        number: {
            name: _as(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in of_parameter.items()
        }
        for number, of_parameter in state["state"].items()
    }
    return {**state, "state": states}


def _as(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return the part of a whole tensor that this process has of a parameter."""
    if not isinstance(parameter, DTensor):
        return tensor
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(tensor.to(parameter.device), mesh, placements, src_data_rank=None)


class _Buffers:
    """Buffers of the state other than running statistics: those of the first process are everyone's."""

    def __init__(self, model: nn.Module) -> None:
        names = set(model.state_dict(keep_vars=True))
        statistics = {id(buffer) for norm in norms_with_statistics(model) for buffer in norm.buffers()}
        self._buffers = [b for name, b in model.named_buffers() if name in names and id(b) not in statistics]

    def send(self) -> None:
        for buffer in self._buffers:
            distributed.broadcast(buffer, src=0)
