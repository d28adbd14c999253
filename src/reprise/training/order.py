"""The order in which an epoch visits its samples. Any part of it can be had, and it takes no memory for each sample."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reprise.randomness.addresses import order_generator, order_seed
from reprise.randomness.counter_based import permuted

MOST_HELD = 2**19
"""An order of more samples is computed as it is visited; a smaller one is held, eight bytes a sample."""


class Order(Protocol):
    """The sample indices of an epoch by position, a slice at a time."""

    def __getitem__(self, positions: slice, /) -> NDArray[np.int64]: ...


def in_order(num_samples: int) -> Order:
    """Return the order from the first sample to the last."""
    return _Computed(num_samples, None)


def shuffled(num_samples: int, seed: int, epoch: int) -> Order:
    """Return the order of an epoch, from 0."""
    if num_samples <= MOST_HELD:
        return order_generator(seed, epoch).permutation(num_samples)
    return _Computed(num_samples, order_seed(seed, epoch))


class _Computed:
    def __init__(self, num_samples: int, key: int | None) -> None:
        self._num_samples = num_samples
        self._key = key

    def __getitem__(self, positions: slice, /) -> NDArray[np.int64]:
        numbers = np.arange(*positions.indices(self._num_samples), dtype=np.int64)
        return numbers if self._key is None else permuted(numbers, self._num_samples, self._key)
