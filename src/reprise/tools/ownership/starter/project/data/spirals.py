"""Points in the plane on three spirals, one class each: a data set to start with, computed from the seed."""

import torch

from reprise.config import Fraction, NonNegativeFloat, PositiveInt
from reprise.data import Data, Description, TensorSplit, fingerprint, stack
from reprise.data.splitting import split_rows
from reprise.randomness import numpy_generator

_NUM_SPIRALS = 3


def load_spirals(
    *, num_samples: PositiveInt, noise: NonNegativeFloat, train_split: Fraction, val_split: Fraction, seed: int
) -> Data:
    draws = numpy_generator(seed, "spirals")
    labels = torch.arange(num_samples) % _NUM_SPIRALS  # (N,)
    radius = torch.from_numpy(draws.random(num_samples))  # (N,)
    angle = 4.0 * radius + labels * (2.0 * torch.pi / _NUM_SPIRALS)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # (N, 2)
    features = (points + noise * torch.from_numpy(draws.standard_normal(points.shape))).float()

    rows = split_rows(num_samples, train_split, val_split, seed)
    splits = {name: TensorSplit({"features": features[i], "labels": labels[i]}) for name, i in rows.items()}
    label_names = [f"spiral {number}" for number in range(_NUM_SPIRALS)]
    return Data(
        splits=splits,
        collate=stack,
        description=Description(
            name="Three spirals",
            task="tabular-classification",
            source="computed from the seed",
            labels=tuple(label_names),
            fingerprints={name: fingerprint(*split.columns.values()) for name, split in splits.items()},
        ),
        facts={"num_features": 2, "num_labels": _NUM_SPIRALS, "label_names": label_names},
    )
