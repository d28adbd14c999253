"""Which batches of each step are for one of several processes."""

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def share_of_steps(
    batches: Iterator[T], first: int, share: range, num_per_epoch: int, num_per_step: int
) -> Iterator[T]:
    """Yield the batches with a number in `share` of each step; `first` is the number of the first in the whole run.

    Where the last step of an epoch has fewer of them than another share, its first batch takes their place.
    """
    for number, batch in enumerate(batches, first):
        position = number % num_per_epoch
        of_step = position % num_per_step
        if of_step == 0:
            first_of_step = batch
        if of_step in share:
            yield batch
        if position == num_per_epoch - 1:
            num_present = len(range(share.start, min(share.stop, of_step + 1)))
            for _ in range(min(len(share), of_step + 1) - num_present):
                yield first_of_step
