"""Runs a model outside of training such that nothing of it stays in the model. It knows no data and no metrics."""

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reprise.files.content_hash import content_hash


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Have `model` in evaluation mode and without gradients inside the block, and as it was before afterwards.

    That holds however the block ends, for the mode of each module, `requires_grad`, and all that `state_kept` names.
    """
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    # Not `inference_mode`: what a model makes of its tensors there and keeps could never be trained with.
    with state_kept(model), torch.no_grad():
        try:
            model.eval()
            yield model
        finally:
            for module, is_training in modes:
                module.training = is_training
            for parameter, is_trained in trained:
                parameter.requires_grad = is_trained


@contextlib.contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """Put back, after the block, what passes inside it have changed: see `ModelState`."""
    state = ModelState(model)
    try:
        yield
    finally:
        state.put_back()


class ModelState:
    """What passes can change in a model, as it is now: buffers, extra state and, `with_weights`, trained parameters.

    Not in it are parameters that are not trained, since a large frozen model cannot be held twice, and attributes that
    are no buffers. What has no shape yet, or does not exist yet, is left alone: tables are made when first used.
    """

    def __init__(self, model: nn.Module, *, with_weights: bool = True) -> None:
        self._buffers = [
            (module, name, buffer)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
            if not is_lazy(buffer)
        ]
        # Some layers rescale their weights in every pass, as `nn.Embedding(max_norm=…)` does. Holding them twice takes
        # no more memory than training does: their gradients are gone between two steps.
        weights = [w for w in model.parameters() if w.requires_grad and not is_lazy(w)] if with_weights else []
        tensors = {id(tensor): tensor for tensor in [*weights, *(buffer for *_, buffer in self._buffers)]}
        self._contents = [(tensor, _once(tensor).detach().clone()) for tensor in tensors.values()]
        self._extra = [
            (module, copy.deepcopy(module.get_extra_state()))
            for module in model.modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make everything what it was, in the same memory: CUDA graphs and other processes know it by that."""
        for module, name, buffer in self._buffers:
            if getattr(module, name, None) is not buffer:
                setattr(module, name, buffer)
        for tensor, content in self._contents:
            present = _once(tensor)
            if present.shape == content.shape and present.dtype == content.dtype:
                present.copy_(content)
            else:
                tensor.data = content
        for module, state in self._extra:
            if content_hash(module.get_extra_state()) != content_hash(state):
                module.set_extra_state(state)


def _once(tensor: Tensor) -> Tensor:
    """Return the part of an expanded tensor that all of it repeats: nothing can be written to the whole."""
    if tensor.layout is not torch.strided or 0 not in tensor.stride():
        return tensor
    return tensor[tuple(slice(1) if stride == 0 else slice(None) for stride in tensor.stride())]
