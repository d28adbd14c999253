"""The handwritten digits that ship inside scikit-learn: 1,797 real scans of 8 × 8 pixels, ten classes."""

import gzip
import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from reprise.config import Fraction, NonNegativeInt, PositiveInt, Probability, Range
from reprise.data import Batch, Data, Description, TensorSplit, fingerprint, stack
from reprise.data.splitting import split_rows
from reprise.randomness import SampleDraws

_USAGE = """\
import torch
from sklearn.datasets import load_digits

image = load_digits().images[0] / 16  # (8, 8), values from 0 to 1
batch = {"pixel_values": torch.tensor(image, dtype=torch.float32)[None, None]}  # (1, 1, 8, 8)"""


def load_digits(
    *,
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    fold: NonNegativeInt | None = None,
    num_folds: PositiveInt = 5,
    stratify: bool = False,
    shift_probability: Probability = 0.5,
    seed: int,
) -> Data:
    """Return the digits as images (1, 8, 8) with values from 0 to 1.

    In training an image is shifted by up to one pixel in each direction with `shift_probability`.
    """
    table = _read_table()  # (N, 65)
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8) / 16.0).float()
    labels = torch.from_numpy(table[:, -1]).long()
    strata = labels.numpy() if stratify else None
    rows = split_rows(len(labels), train_split, val_split, seed, fold=fold, num_folds=num_folds, strata=strata)

    def shift(batch: Batch, draws: SampleDraws) -> Batch:
        return {**batch, "pixel_values": _shift(batch["pixel_values"], draws, shift_probability)}

    splits = {
        name: TensorSplit(
            {"pixel_values": images[indices], "labels": labels[indices]}, augment=shift if name == "train" else None
        )
        for name, indices in rows.items()
    }

    def support_vector_machine() -> dict[str, float]:
        from sklearn.svm import SVC

        train, test = (splits[name].columns for name in ("train", "test"))
        classifier = SVC(gamma=0.05, C=10.0).fit(train["pixel_values"].flatten(1).numpy(), train["labels"].numpy())
        return {"accuracy": float(classifier.score(test["pixel_values"].flatten(1).numpy(), test["labels"].numpy()))}

    return Data(
        splits=splits,
        collate=stack,
        description=Description(
            name="scikit-learn digits",
            task="image-classification",
            summary="Scans of handwritten digits, reduced to 8 × 8 counts of dark pixels.",
            source="scikit-learn's `load_digits`, the test part of UCI's Optical Recognition of Handwritten Digits",
            license="cc-by-4.0",
            labels=tuple(str(digit) for digit in range(10)),
            caveats=(
                "The scans come from 13 writers, and a random split puts the same writers into training and test: "
                "scores for unseen writers would be lower.",
            ),
            fingerprints={
                name: fingerprint(split.columns["pixel_values"], split.columns["labels"])
                for name, split in splits.items()
            },
        ),
        facts={
            "num_labels": 10,
            "label_names": [str(digit) for digit in range(10)],
            "image_size": 8,
            "num_channels": 1,
        },
        baselines={"support vector machine (RBF kernel on pixels)": support_vector_machine} if "test" in splits else {},
        usage=_USAGE,
    )


def _read_table() -> NDArray[np.float64]:
    """Return the 64 pixels (0 to 16) and the label of each digit, (N, 65)."""
    # Importing scikit-learn takes as long as importing torch; its file alone is read in milliseconds.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",")


def _shift(images: torch.Tensor, draws: SampleDraws, probability: float) -> torch.Tensor:
    """Shift some images (B, 1, H, W) by -1, 0 or 1 pixel along each axis; what comes in is empty."""
    chosen = draws.uniform(1)[:, 0] < probability
    offsets = draws.integers(-1, 2, 2) * chosen[:, None]  # (B, 2)
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images[:, 0], (1, 1, 1, 1))  # (B, H + 2, W + 2)
    row = torch.from_numpy(offsets[:, :1] + np.arange(1, height + 1))[:, :, None]  # (B, H, 1)
    column = torch.from_numpy(offsets[:, 1:] + np.arange(1, width + 1))[:, None, :]  # (B, 1, W)
    return padded[torch.arange(len(images))[:, None, None], row, column][:, None]
