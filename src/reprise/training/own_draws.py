"""Notices a split that draws random numbers for itself. A few samples are read for that, and nothing is changed."""

import contextlib
import gc
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reprise.data import TensorSplit
from reprise.files.content_hash import content_hash
from reprise.randomness.global_state import capture_rng_state, restore_rng_state
from reprise.training.loading import Fetcher
from reprise.training.signals import leave_signals_to_the_parent
from reprise.training.threads import one_thread

_MOST_VISITED, _MOST_ITEMS = 10_000, 1_000


def draws_for_itself(fetcher: Fetcher, indices: NDArray[np.int64], num_workers: int) -> bool:
    """Return whether the batch of some samples differs when it is read twice at the same address.

    Where there are loader processes, one of them reads: what a split opens at its first sample must not be opened here.
    Otherwise it is read here, and the generators that the split holds are put back.
    """
    if isinstance(fetcher.split, TensorSplit) and fetcher.split.augment is None:
        return False
    differs = _Differs(fetcher, indices)
    if num_workers:
        loader = DataLoader(
            differs,
            batch_size=None,
            num_workers=1,
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=leave_signals_to_the_parent,
        )
        (answer,) = loader
        return bool(answer)
    state = capture_rng_state()
    try:
        with one_thread(), _put_back(fetcher.split, fetcher.collate):
            return differs[0]
    finally:
        restore_rng_state(state)


class _Differs(Dataset[bool]):
    def __init__(self, fetcher: Fetcher, indices: NDArray[np.int64]) -> None:
        self._fetcher = fetcher
        self._indices = indices

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> bool:
        # Hashed before it is read again: a split may return the same memory each time.
        first = content_hash(self._fetcher[0, self._indices])
        return first != content_hash(self._fetcher[0, self._indices])


_STATES: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    np.random.Generator: (
        lambda generator: generator.bit_generator.state,
        lambda generator, state: setattr(generator.bit_generator, "state", state),
    ),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
}


@contextlib.contextmanager
def _put_back(*holders: object) -> Iterator[None]:
    """Put the generators back that some objects hold or use, at any depth."""
    before = [(found, _STATES[type(found)][0](found)) for found in _generators(holders)]
    try:
        yield
    finally:
        for generator, state in before:
            _STATES[type(generator)][1](generator, state)


def _generators(holders: Iterable[object]) -> Iterator[Any]:
    """Yield the generators that can be reached from some objects and the functions they use, the nearest first."""
    waiting, seen = deque(holders), set[int]()
    while waiting and len(seen) < _MOST_VISITED:
        thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, type | ModuleType | Tensor | np.ndarray):
            continue
        seen.add(id(thing))
        if type(thing) in _STATES:
            yield thing
        elif isinstance(thing, FunctionType):
            names = thing.__globals__  # those that it uses, and not the whole module
            waiting.extend(names[name] for name in thing.__code__.co_names if name in names)
            waiting.extend([*(thing.__closure__ or ()), *(thing.__defaults__ or ())])
        elif not (isinstance(thing, list | tuple | set | dict) and len(thing) > _MOST_ITEMS):
            waiting.extend(gc.get_referents(thing))
            of_class = [value for kind in type(thing).__mro__ for value in vars(kind).values()]
            waiting.extend(value for value in of_class if isinstance(value, FunctionType) or type(value) in _STATES)
