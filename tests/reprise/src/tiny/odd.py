"""Data of which some labels are masked, and parts that return what is seldom returned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Run
from reprise.data import Data, TensorSplit
from reprise.metrics import Metric
from reprise.models import ModelOutput
from tiny.images import SIZE, load_images


def load_masked(*, masked: list[str], first_only: bool = False, seed: int, **arguments: Any) -> Data:
    """Return images of which the labels of whole splits are masked, or of their first batch of 32."""
    data = load_images(seed=seed, **arguments)
    for name in masked:
        split = data.splits[name]
        assert isinstance(split, TensorSplit)
        split.columns["labels"][: 32 if first_only else None] = -100
    return data


class Flat(nn.Module):
    """Has a loss of shape (1,)."""

    def __init__(self, num_logits: int = 10, **sizes: Any) -> None:
        super().__init__()
        self.head = nn.Linear(SIZE * SIZE, num_logits)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.head(pixel_values.flatten(1))
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels).reshape(1))


class OddMetric(Metric):
    """Returns scalars of NumPy and torch, and one that is no number."""

    names = ("tensor", "float32", "nothing")

    def reset(self) -> None:
        self._num_items = 0

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        self._num_items += num_items

    def compute(self) -> dict[str, Any]:
        return {"tensor": torch.tensor([self._num_items]), "float32": np.float32(0.5), "nothing": np.float64("nan")}


class OddLog(Callback):
    """Logs scalars of NumPy and torch, and one that is no number."""

    def on_step_end(self, run: Run) -> None:
        odd: Any = {"train/flag": np.bool_(True), "train/single": torch.ones(1), "train/nothing": float("nan")}
        run.loop.log(odd)
