"""Finds the random generators that objects hold or use, of every library, and knows their states."""

import gc
import random
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST_ITEMS = 1_000

STATES: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    np.random.Generator: (
        lambda generator: generator.bit_generator.state,
        lambda generator, state: setattr(generator.bit_generator, "state", state),
    ),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
}
"""How the state of a generator is read, and how it is set."""


def generators_in(*holders: object, most: int = 10_000, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield the generators that can be reached from some objects and the functions they use, the nearest first.

    `most`: how many objects are visited. `seen`: ids of those that were visited before, and are not again.
    """
    waiting, seen = deque(holders), set() if seen is None else seen
    most += len(seen)
    while waiting and len(seen) < most:
        thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, type | ModuleType | Tensor | np.ndarray):
            continue
        seen.add(id(thing))
        if type(thing) in STATES:
            yield thing
        elif isinstance(thing, FunctionType):
            names = thing.__globals__  # those that it uses, and not the whole module
            waiting.extend(names[name] for name in thing.__code__.co_names if name in names)
            waiting.extend([*(thing.__closure__ or ()), *(thing.__defaults__ or ())])
        elif not (isinstance(thing, list | tuple | set | dict) and len(thing) > _MOST_ITEMS):
            waiting.extend(gc.get_referents(thing))
            of_class = [value for kind in type(thing).__mro__ for value in vars(kind).values()]
            waiting.extend(value for value in of_class if isinstance(value, FunctionType) or type(value) in STATES)
