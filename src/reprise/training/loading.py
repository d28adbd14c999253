"""Brings batches from a split, in the order of an epoch, from any position, with or without loader processes."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from reprise.data import Batch, Split, TensorSplit
from reprise.randomness.addresses import draws_seed, order_generator, order_seed, sample_seed, seed_globals
from reprise.randomness.counter_based import SampleDraws, permuted
from reprise.training.cadence import num_steps_per_epoch
from reprise.training.shares import share_of_steps
from reprise.training.signals import leave_signals_to_the_parent
from reprise.training.threads import one_thread

MOST_HELD = 2**19
"""An order of more samples is computed as it is visited; a smaller one is held, eight bytes a sample."""

BatchAddress = tuple[int, NDArray[np.int64]]
"""Epoch and sample indices: all that a batch depends on, beside the seed."""

_INDICES_AT_ONCE = 2**13
"""How much of an order is asked for together: what computes it is made for many."""

_BYTES_AT_ONCE = 2**18
"""How much is copied together where consecutive batches are mere copies; it stays in a processor's cache."""


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


class Batches:
    """The batches of one split. What batch number n holds is arithmetic: nothing is loaded to be skipped.

    `purpose` is the part of the address that sets the random draws of this split apart from those of others. `only`:
    the number of batches, from the start of the first epoch, that all batches repeat; an epoch keeps its length. Of
    every `num_per_step` batches of an epoch, `stream` yields those with a number in `share`: other processes have the
    others. `origin`: the step from which epochs are counted. An epoch has the first `num_samples` of its order, or all.
    """

    def __init__(
        self,
        split: Split,
        collate: Callable[[list[Any]], Batch],
        *,
        batch_size: int,
        seed: int,
        purpose: str,
        shuffle: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        only: int | None = None,
        num_per_step: int = 1,
        share: range | None = None,
        origin: int = 0,
        num_samples: int | None = None,
    ) -> None:
        self._split = split
        self.fetcher = Fetcher(split, collate, seed, purpose)
        self._num_samples = len(split)
        self.num_samples = self._num_samples if num_samples is None else num_samples
        self._num_batches = -(-self.num_samples // batch_size)
        self.batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._only = only
        self.num_per_step = num_per_step
        self._share = share
        self._origin = origin
        self.steps_per_epoch = num_steps_per_epoch(self._num_batches, num_per_step)

    def __len__(self) -> int:
        """Return the number of batches of one epoch; the last may be smaller than the others."""
        return self._num_batches

    def of_step(self, step: int) -> tuple[int, int]:
        """Return the number in the whole run of the first batch of a step, counted from 1, and how many it has."""
        epoch, position = divmod(step - 1 - self._origin, self.steps_per_epoch)
        first = position * self.num_per_step
        return epoch * self._num_batches + first, min(self.num_per_step, self._num_batches - first)

    def samples_of_step(self, step: int) -> list[int]:
        """Return the indices of the samples that a step, counted from 1, trains on, in all processes."""
        first, num = self.of_step(step)
        return [index for _, indices in self._addresses(first, first + num) for index in indices.tolist()]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return self._fetch(self._addresses(0, len(self)))

    def stream(self, first: int = 0) -> Iterator[Batch]:
        """Yield batches without end, epoch after epoch, from batch number `first` of the whole run on."""
        addresses = self._addresses(first, None)
        return self._fetch(
            addresses
            if self._share is None
            else share_of_steps(addresses, first, self._share, len(self), self.num_per_step)
        )

    def between(self, first: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of one epoch from number `first` up to `stop`."""
        return self._fetch(self._addresses(first, stop))

    def order(self, epoch: int) -> Order:
        """Return the order of an epoch, from 0."""
        return shuffled(self._num_samples, self._seed, epoch) if self._shuffle else in_order(self._num_samples)

    def _addresses(self, first: int, stop: int | None) -> Iterator[BatchAddress]:
        num_at_once = max(1, _INDICES_AT_ONCE // self.batch_size)
        number, known_epoch, known = first, -1, range(0)
        while stop is None or number < stop:
            epoch, position = divmod(number, len(self))
            if self._only is not None:
                epoch, position = 0, number % min(self._only, len(self))
            if epoch != known_epoch:
                order, known_epoch, known = self.order(epoch), epoch, range(0)
            if position not in known:
                known = range(position, position + num_at_once)
                indices = order[known.start * self.batch_size : min(known.stop * self.batch_size, self.num_samples)]
            start = (position - known.start) * self.batch_size
            yield epoch, indices[start : start + self.batch_size]
            number += 1

    def _fetch(self, addresses: Iterator[BatchAddress]) -> Iterator[Batch]:
        if self._num_workers == 0 and not self._pin_memory:
            if isinstance(self._split, TensorSplit) and self._split.augment is None:
                yield from self._copied(self._split, addresses)
                return
            for batch in addresses:
                with one_thread():
                    fetched = self.fetcher[batch]
                yield fetched
            return
        yield from DataLoader(
            self.fetcher,
            batch_size=None,  # the fetcher collates
            sampler=addresses,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            # Without one of its own the loader would take a draw from the global generator.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=leave_signals_to_the_parent,
        )

    def _copied(self, split: TensorSplit, addresses: Iterator[BatchAddress]) -> Iterator[Batch]:
        """Yield batches that nothing is done to but copying: one copy for several of them, of which each is a part."""
        names, columns = tuple(split.columns), tuple(split.columns.values())
        num_bytes = sum(column[:1].nbytes for column in columns) * self.batch_size
        num_at_once = max(1, _BYTES_AT_ONCE // max(1, num_bytes))
        while chunk := [indices for _, indices in itertools.islice(addresses, num_at_once)]:
            rows, sizes = torch.from_numpy(np.concatenate(chunk)), [len(indices) for indices in chunk]
            copies = [torch.split(column.index_select(0, rows), sizes) for column in columns]
            for parts in zip(*copies, strict=True):
                yield dict(zip(names, parts, strict=True))


class Fetcher(Dataset[Batch]):
    """Fetches one whole batch; lives in the loader processes where there are any."""

    def __init__(self, split: Split, collate: Callable[[list[Any]], Batch], seed: int, purpose: str) -> None:
        self.split: Any = split
        self.collate = collate
        self._seed = seed
        self._purpose = purpose
        self._get_batch, self._get_sample = (getattr(split, name, None) for name in ("get_batch", "get_sample"))
        self._address = functools.lru_cache(1)(functools.partial(draws_seed, seed, purpose))

    def __getitem__(self, batch: BatchAddress) -> Batch:
        epoch, indices = batch
        if self._get_batch is not None:
            whole: Batch = self._get_batch(indices, SampleDraws(self._address(epoch), indices))
            return whole
        samples, get = [], self._get_sample
        for index in indices.tolist():
            seed_globals(seed := sample_seed(self._seed, self._purpose, epoch, index))
            samples.append(self.split[index] if get is None else get(index, np.random.Generator(np.random.PCG64(seed))))
        return self.collate(samples)
