"""Cuts the rows of one data set into train, val and test."""

import numpy as np
from numpy.typing import NDArray

from reprise.config import InputError
from reprise.randomness import numpy_generator


def split_rows(num_rows: int, train_split: float, val_split: float, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each split, disjoint and together all rows, drawn from the address (seed, "split").

    `train_split` and `val_split` are fractions of all rows; the rest is the test split, which is left out when the
    two add up to 1.
    """
    if train_split + val_split > 1 + 1e-9:
        raise InputError(f"data.train_split + data.val_split: expected at most 1, got {train_split!r} + {val_split!r}")
    order = numpy_generator(seed, "split").permutation(num_rows)
    train_end = round(num_rows * train_split)
    val_end = min(num_rows, round(num_rows * (train_split + val_split)))
    parts = {"train": order[:train_end], "val": order[train_end:val_end], "test": order[val_end:]}
    if train_split + val_split >= 1 - 1e-9:
        del parts["test"]
    empty = [name for name, rows in parts.items() if len(rows) == 0]
    if empty:
        raise InputError(
            f"data.train_split, data.val_split: {train_split!r} and {val_split!r} of {num_rows} rows leave nothing "
            f"for {' and '.join(empty)}"
        )
    return parts
