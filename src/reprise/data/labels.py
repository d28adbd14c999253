"""Labels that are numbers of classes: none may be outside of the classes that the model has.

On a GPU a loss that meets one ends the process with an assertion that names nothing, so they are looked at before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from reprise.data import MASKED, Batch, Data, Split, TensorSplit, count_labels, counter_of
from reprise.data.tokenized_texts import TextSplit
from reprise.errors import InputError


def outside_of_classes(labels: Tensor, num_labels: int) -> str | None:
    """Return how many labels are outside of the classes, and which is the first; None if none is.

    `labels`: on the host, one for each row. What is no integer, or several for each row, is no number of a class.
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        return None
    values = labels.numpy()
    # Masked labels are negative, so the least of all says at once whether there may be others.
    if not len(values) or (values.max() < num_labels and values.min() >= 0):
        return None
    is_counted = values != MASKED
    (rows,) = np.nonzero(is_counted & ((values < 0) | (values >= num_labels)))
    if not len(rows):
        return None
    return (
        f"{len(rows)} of {np.count_nonzero(is_counted)} labels are outside of the classes 0 to {num_labels - 1}, the "
        f"first of them {values[rows[0]]} in row {rows[0]} (from 0); {MASKED} leaves a sample out"
    )


@dataclass(frozen=True)
class ClassLabels:
    """How many classes the labels of a data set are of, and what says so."""

    num_labels: int
    origin: str

    def check(self, labels: Tensor | None, where: str) -> None:
        """Raise an InputError if a label is outside of the classes."""
        if labels is not None and (outside := outside_of_classes(labels, self.num_labels)):
            raise InputError(f"data: {where}: {outside}. num_labels is {self.num_labels}, {self.origin}")

    def check_held(self, data: Data) -> None:
        """Check the labels of all splits that hold them in memory."""
        if data.count_items is count_labels:  # or -100 is not what masks
            for name, split in data.splits.items():
                self.check(_held(split), f"the split {name!r}")

    def counter(self, name: str, data: Data) -> Callable[[Batch], int]:
        """Return what counts the items in batches of a split, and first checks labels that `check_held` has not."""
        split = data.splits[name]
        if data.count_items is not count_labels or _held(split) is not None:
            return counter_of(split, data.count_items)

        def count_checked(batch: Batch) -> int:
            self.check(batch.get("labels"), f"a batch of the split {name!r}")
            return count_labels(batch)

        return count_checked


def class_labels(data: Data, model_spec: Mapping[str, Any], given: Mapping[str, Any]) -> ClassLabels | None:
    """Return of how many classes labels may be: as many as both model and data have; None where nothing says it.

    `model_spec`: all arguments of the model; `given`: those of the config. One class is a regression.
    """
    found = [
        ClassLabels(number, origin)
        for number, origin in (
            (data.facts.get("num_labels"), "a fact of the data set (`Data.facts`)"),
            (
                model_spec.get("num_labels"),
                "which the config gives as model.num_labels" if "num_labels" in given else "which the data gives",
            ),
        )
        if type(number) is int and number > 1
    ]
    return min(found, key=lambda one: one.num_labels, default=None)


def _held(split: Split) -> Tensor | None:
    """Return the labels of a split that has them all in memory; those of a user's class may not be what it returns."""
    if type(split) is TensorSplit:
        return split.columns.get("labels")
    return split.labels if type(split) is TextSplit else None
