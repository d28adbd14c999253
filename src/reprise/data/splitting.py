"""Cuts the rows of one data set, or one text, into train, val and test; by fractions, or into folds."""

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from reprise.errors import InputError
from reprise.randomness.addresses import splitting_generator


def split_rows(
    num_rows: int,
    train_split: float,
    val_split: float,
    seed: int,
    *,
    fold: int | None = None,
    num_folds: int = 5,
    strata: Sequence[int] | Sequence[str] | NDArray[np.generic] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each split, disjoint and together all rows, drawn from the address (seed, "split").

    `train_split` and `val_split` are fractions of all rows; the rest is the test split, which is left out when the
    two add up to 1. With a `fold`, from 0, the rows are cut into `num_folds` equal parts: this one is the test split,
    `val_split` of all rows is the validation split, and `train_split` does not count, since all others are for
    training. `strata`: the class of each row, such as its label; then every split has its share of each class.
    """
    order = splitting_generator(seed).permutation(num_rows)
    if strata is not None:
        order = order[_by_share(np.asarray(strata)[order])]
    names, ends = _ends(num_rows, train_split, val_split, fold, num_folds)
    if fold is not None:
        order = np.roll(order, -_fold_ends(num_rows, fold, num_folds)[1])
    parts = dict(zip(names, np.split(order, ends[:-1]), strict=True))
    empty = [name for name, rows in parts.items() if len(rows) == 0]
    if empty:
        keys = "data.train_split, data.val_split" if fold is None else "data.val_split, data.num_folds"
        given = (train_split, val_split) if fold is None else (val_split, num_folds)
        raise InputError(
            f"{keys}: {given[0]!r} and {given[1]!r} of {num_rows} rows leave nothing for {' and '.join(empty)}"
        )
    return parts


def split_text(
    text: str, train_split: float, val_split: float, *, fold: int | None = None, num_folds: int = 5
) -> dict[str, str]:
    """Return contiguous portions of `text`, as `split_rows` cuts rows, but in the order in which they stand.

    With a `fold`, what comes after it stands before what comes before it, so training text has one seam at most.
    """
    names, ends = _ends(len(text), train_split, val_split, fold, num_folds)
    if fold is not None:
        end = _fold_ends(len(text), fold, num_folds)[1]
        text = text[end:] + text[:end]
    return {name: text[start:end] for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)}


def _ends(
    length: int, train_split: float, val_split: float, fold: int | None, num_folds: int
) -> tuple[list[str], list[int]]:
    """Return the names of the splits in their order, and where each ends."""
    if fold is None:
        if train_split + val_split > 1 + 1e-9:
            raise InputError(
                f"data.train_split + data.val_split: expected at most 1, got {train_split!r} + {val_split!r}"
            )
        val_end = min(length, round(length * (train_split + val_split)))
        ends = [round(length * train_split), val_end, length]
        return (["train", "val"], ends[:2]) if train_split + val_split >= 1 - 1e-9 else (["train", "val", "test"], ends)
    if not 0 <= fold < num_folds:
        raise InputError(f"data.fold: expected 0 to {num_folds - 1} with data.num_folds={num_folds}, got {fold}")
    start, end = _fold_ends(length, fold, num_folds)
    val_end = length - (end - start)
    return ["train", "val", "test"], [max(0, val_end - round(length * val_split)), val_end, length]


def _fold_ends(length: int, fold: int, num_folds: int) -> tuple[int, int]:
    return fold * length // num_folds, (fold + 1) * length // num_folds


def _by_share(strata: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return an order of the rows in which any first m of N rows hold m/N of each class, to less than one row.

    So any stretch does to less than two. The rows of a class stay in the order in which they come. The k-th of n rows
    may not come before (k - 1)N/n nor after kN/n, rounded up; of those that may come, the one that is due first does.
    That there is such an order: Tijdeman, "The chairman assignment problem", 1980; that this rule finds it: Steiner and
    Yeomans, "Level schedules for mixed-model, just-in-time processes", 1993.
    """
    _, classes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    rows = [part.tolist() for part in np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])]
    length, placed = len(classes), [0] * len(rows)
    early, due = [(0, label) for label in range(len(rows))], list[tuple[int, int]]()
    order = []
    for place in range(length):
        while early and early[0][0] <= place:
            label = heappop(early)[1]
            heappush(due, (-((placed[label] + 1) * -length // len(rows[label])), label))
        label = heappop(due)[1]
        order.append(rows[label][placed[label]])
        placed[label] += 1
        if placed[label] < len(rows[label]):
            heappush(early, (placed[label] * length // len(rows[label]), label))
    return np.array(order)
