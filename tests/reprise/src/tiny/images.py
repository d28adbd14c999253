"""Small images of ten patterns under noise, drawn from addressed randomness."""

from typing import Annotated

import numpy as np
import torch

from reprise.config import Fraction, NonNegativeInt, PositiveInt, Probability, Range
from reprise.data import Batch, Data, Description, TensorSplit, fingerprint, stack
from reprise.data.splitting import split_rows
from reprise.randomness import SampleDraws, numpy_generator

NUM_LABELS, SIZE = 10, 8
NOISE = 2.0
_DRAW = 13  # of which the best evaluation of `harness.EVERYTHING` is neither its first nor its last

_USAGE = "import torch\n\nbatch = {'pixel_values': torch.zeros(1, 1, 8, 8)}"


def load_images(
    *,
    num_samples: PositiveInt = 400,
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    fold: NonNegativeInt | None = None,
    num_folds: PositiveInt = 5,
    stratify: bool = False,
    shift_probability: Probability = 0.5,
    seed: int,
) -> Data:
    """Return images (1, 8, 8); in training one is shifted by up to one pixel with `shift_probability`."""
    generator = numpy_generator("tiny images", _DRAW)
    patterns = generator.normal(size=(NUM_LABELS, 1, SIZE, SIZE))
    labels = generator.integers(0, NUM_LABELS, num_samples)
    pixels = patterns[labels] + NOISE * generator.normal(size=(num_samples, 1, SIZE, SIZE))
    strata = labels if stratify else None
    rows = split_rows(num_samples, train_split, val_split, seed, fold=fold, num_folds=num_folds, strata=strata)

    def shift(batch: Batch, draws: SampleDraws) -> Batch:
        return {**batch, "pixel_values": _shift(batch["pixel_values"], draws, shift_probability)}

    splits = {
        name: TensorSplit(
            {"pixel_values": torch.from_numpy(pixels[chosen]).float(), "labels": torch.from_numpy(labels[chosen])},
            augment=shift if name == "train" else None,
        )
        for name, chosen in rows.items()
    }

    def nearest_mean() -> dict[str, float]:
        means = np.stack([pixels[rows["train"]][labels[rows["train"]] == k].mean(0) for k in range(NUM_LABELS)])
        distances = ((pixels[rows["test"]][:, None] - means) ** 2).sum((-3, -2, -1))  # (N, NUM_LABELS)
        return {"accuracy": float((distances.argmin(1) == labels[rows["test"]]).mean())}

    names = [f"pattern {number}" for number in range(NUM_LABELS)]
    return Data(
        splits=splits,
        collate=stack,
        description=Description(
            name="tiny images",
            task="image-classification",
            summary="Ten patterns of 8 × 8 pixels under noise.",
            source="drawn by the tests",
            license="mit",
            labels=tuple(names),
            caveats=("The noise is twice as strong as the patterns.",),
            fingerprints={name: fingerprint(*split.columns.values()) for name, split in splits.items()},
        ),
        facts={"num_labels": NUM_LABELS, "label_names": names, "image_size": SIZE, "num_channels": 1},
        baselines={"nearest mean": nearest_mean} if "test" in splits else {},
        usage=_USAGE,
    )


def _shift(images: torch.Tensor, draws: SampleDraws, probability: float) -> torch.Tensor:
    """Shift some images (B, 1, H, W) along their rows by -1, 0 or 1 pixel."""
    offsets = draws.integers(-1, 2, 1)[:, 0] * (draws.uniform(1)[:, 0] < probability)  # (B,)
    columns = (np.arange(SIZE) + offsets[:, None]) % SIZE  # (B, W)
    index = torch.from_numpy(columns)[:, None, None, :].expand(-1, 1, SIZE, -1)
    return images.gather(-1, index)
