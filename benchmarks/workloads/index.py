"""A data set that is all index: any number of samples, made from the rows of a small table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workloads.perceptron import NUM_LABELS, points

if TYPE_CHECKING:
    from reprise.data import Data


class IndexedPoints:
    def __init__(self, columns: Mapping[str, Tensor], num_samples: int) -> None:
        self._columns = columns
        self._table_size = len(columns["labels"])
        self._num_samples = num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index % self._table_size] for name, column in self._columns.items()}

    def get_batch(self, indices: Any, draws: Any) -> dict[str, Tensor]:
        rows = torch.from_numpy(indices % self._table_size)
        return {name: column.index_select(0, rows) for name, column in self._columns.items()}


def load_index(*, num_samples: int, seed: int) -> "Data":
    from reprise.data import Data, Description, stack

    splits = points()
    return Data(
        splits={"train": IndexedPoints(splits["train"], num_samples), "val": IndexedPoints(splits["val"], 256)},
        collate=stack,
        description=Description(name="benchmark", task="tabular-classification"),
        facts={"num_labels": NUM_LABELS},
    )
