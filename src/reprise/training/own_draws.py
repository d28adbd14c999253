"""Notices a split that draws random numbers for itself. A few samples are read for that, and nothing is changed."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from reprise.data import TensorSplit
from reprise.files.content_hash import content_hash
from reprise.randomness.global_state import capture_rng_state, restore_rng_state
from reprise.training.generators import STATES, generators_in
from reprise.training.loading import Fetcher
from reprise.training.signals import leave_signals_to_the_parent
from reprise.training.threads import one_thread


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


@contextlib.contextmanager
def _put_back(*holders: object) -> Iterator[None]:
    """Put the generators back that some objects hold or use, at any depth."""
    before = [(found, STATES[type(found)][0](found)) for found in generators_in(*holders)]
    try:
        yield
    finally:
        for generator, state in before:
            STATES[type(generator)][1](generator, state)
