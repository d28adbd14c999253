"""Tensors as a data set of Reprise."""

from collections.abc import Mapping

from torch import Tensor

from reprise.data import Data, Description, TensorSplit, fingerprint, stack


def as_data(splits: Mapping[str, Mapping[str, Tensor]], num_labels: int) -> Data:
    prints = {name: fingerprint(*columns.values()) for name, columns in splits.items()}
    return Data(
        splits={name: TensorSplit(columns) for name, columns in splits.items()},
        collate=stack,
        description=Description(name="benchmark", task="tabular-classification", fingerprints=prints),
        facts={"num_labels": num_labels},
    )
