"""Gives parameters that wait for a first batch their shapes and initial values, at addresses of their own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from reprise.data import Batch, on_device
from reprise.errors import InputError
from reprise.models.evaluation_mode import ModelState, evaluating
from reprise.randomness import capture_rng_state, restore_rng_state
from reprise.randomness.addresses import model_seed, seed_globals
from reprise.text.listing import first_few


def materialize(model: nn.Module, first_batch: Callable[[], Batch], seed: int) -> None:
    """Have all lazy modules of `model`, such as `nn.LazyLinear`, take their shapes from a batch.

    Each initialises itself where the random generators stand at the address of its name. So its values depend neither
    on what else the batch holds, nor on what other modules draw in that pass, and nothing else of the pass stays.
    `first_batch` is called only if there is a lazy module.

    Raises:
        InputError: if parameters are left that the pass did not reach.
    """
    if not _lazy_names(model):
        return
    before = capture_rng_state()
    initial: dict[nn.Module, ModelState] = {}

    def seeding(name: str) -> Callable[..., None]:
        return lambda *_: seed_globals(model_seed(seed, name))

    def keep(module: nn.Module, _: object) -> None:
        if module not in initial:
            initial[module] = ModelState(module)

    lazy = {name: module for name, module in model.named_modules() if issubclass(type(module), LazyModuleMixin)}
    handles = []
    for name, module in lazy.items():
        # The module initialises itself in a hook of its own, which lies between these two.
        handles.append(module.register_forward_pre_hook(seeding(name), prepend=True))
        handles.append(module.register_forward_pre_hook(keep))
    try:
        device = next((tensor.device for tensor in _tensors(model).values()), torch.device("cpu"))
        batch = on_device(first_batch(), device)
        with evaluating(model):
            # In evaluation first: one sample is enough for a batch norm. Some parts are for training alone.
            for mode in (False, True):
                if _lazy_names(model):
                    model.train(mode)(**batch)
    finally:
        for handle in handles:
            handle.remove()
        for state in initial.values():
            state.put_back()
        restore_rng_state(before)
    if left := _lazy_names(model):
        raise InputError(
            f"model._target_: {first_few(map(repr, left))}: no shape after a batch of training, "
            "which did not reach it; give the layer its sizes, or leave it out"
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _lazy_names(model: nn.Module) -> list[str]:
    return [name for name, tensor in _tensors(model).items() if is_lazy(tensor)]
