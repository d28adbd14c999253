"""Notices state of a model that training changes and no checkpoint holds: a resumed run would end with other weights.

It looks twice, when an epoch begins and at the first evaluation or end of an epoch after that, and never at a step.
"""

import logging
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Run
from reprise.files.content_hash import content_hash
from reprise.private_names.torch import unsaved_buffers
from reprise.text.listing import first_few
from reprise.training.generators import STATES, generators_in

logger = logging.getLogger(__name__)

_MOST_VISITED = 200  # for one module: the logger of a library alone leads to thousands of objects
_ADVICE = "or return it from get_extra_state and take it back in set_extra_state: docs/your-own.md"


class UnsavedState(Callback):
    """Warns once, after the first epoch that it sees begin, or at the first evaluation within it."""

    def __init__(self) -> None:
        self._is_done = False
        self._tensors: dict[str, tuple[torch.Size, str]] = {}
        """Shape and hash."""
        self._generators: list[tuple[str, Any, str]] = []
        """Where it was found, the generator, the hash of its state."""

    def on_epoch_start(self, run: Run) -> None:
        if not self._is_done:
            self._tensors = dict(_unsaved_tensors(run.model))
            self._generators = [(where, one, _hash_of(one)) for where, one in _unsaved_generators(run.model)]

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._compare(run.model)

    def on_epoch_end(self, run: Run) -> None:
        self._compare(run.model)

    def _compare(self, model: nn.Module) -> None:
        if self._is_done or not (self._tensors or self._generators):
            return
        self._is_done = True
        # One that has another shape now is a table that was made for a larger batch, or a longer text.
        tensors = [
            name
            for name, (shape, content) in _unsaved_tensors(model)
            if name in self._tensors and self._tensors[name][0] == shape and self._tensors[name][1] != content
        ]
        generators = [where for where, one, before in self._generators if _hash_of(one) != before]
        self._tensors, self._generators = {}, []
        if tensors:
            logger.warning(
                "model: training changes %s, which no checkpoint holds: it is no buffer, or one with persistent=False. "
                "Unless each pass makes it anew, a resumed run ends with other weights. Register it as a buffer "
                f"without persistent=False, {_ADVICE}",
                first_few(tensors),
            )
        if generators:
            logger.warning(
                "model: passes draw from a generator of its own in %s, whose state no checkpoint holds. Unless each "
                "pass seeds it, a resumed run ends with other weights. Draw from torch's global generator, which is "
                f"seeded for each step, {_ADVICE}",
                first_few(generators),
            )


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of those that have no extra state, which may hold anything, and are in none that has."""
    own = [name for name, module in model.named_modules() if _has_extra_state(module)]
    for name, module in model.named_modules():
        if not any(name == other or other == "" or name.startswith(f"{other}.") for other in own):
            yield name, module


def _has_extra_state(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _unsaved_tensors(model: nn.Module) -> Iterator[tuple[str, tuple[torch.Size, str]]]:
    for name, module in _modules(model):
        attributes = {key: value for key, value in vars(module).items() if isinstance(value, Tensor)}
        buffers = {key: getattr(module, key) for key in unsaved_buffers(module)}
        for key, tensor in (attributes | buffers).items():
            if tensor.layout is torch.strided and not tensor.is_meta:
                yield f"{name}.{key}".lstrip("."), (tensor.shape, content_hash(tensor))


def _unsaved_generators(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the class and name of the module that holds or uses a generator, and the generator."""
    # A checkpoint has the states of these, and each step seeds them.
    seen = {id(one) for one in (_INSTANCE_OF_RANDOM, _INSTANCE_OF_NUMPY, torch.default_generator)}
    seen |= set(map(id, torch.cuda.default_generators))
    for name, module in _modules(model):
        held = [value for key, value in vars(module).items() if key not in _PARTS]
        kind = type(module)
        for generator in generators_in(*held, kind.forward, most=_MOST_VISITED, seen=seen):
            yield f"{kind.__module__}.{kind.__qualname__}" + (f" ({name})" if name else ""), generator


def _hash_of(generator: Any) -> str:
    return content_hash(STATES[type(generator)][0](generator))


_PARTS = ("_modules", "_parameters", "_buffers")
_INSTANCE_OF_RANDOM = getattr(random.random, "__self__", None)
_INSTANCE_OF_NUMPY = getattr(np.random.rand, "__self__", None)
