"""A model whose layers take their sizes from the first batch."""

from typing import Any

from torch import Tensor, nn

from reprise.models import ModelOutput
from tiny.observing import Observer


class Lazy(nn.Module):
    """A convolution, with a head that counts in training alone beside the one that is scored."""

    def __init__(self, *, num_labels: int, dropout: float = 0.2, **sizes: Any) -> None:
        super().__init__()
        self.observer = Observer()
        self.features = nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.LazyLinear(num_labels)
        self.beside = nn.Sequential(
            nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Dropout(dropout), nn.LazyLinear(num_labels)
        )

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        features = self.dropout(self.features(self.observer(pixel_values)).flatten(1))
        logits = self.head(features)
        if labels is None:
            return ModelOutput(logits)
        loss = nn.functional.cross_entropy(logits, labels)
        if self.training:
            loss = loss + 0.3 * nn.functional.cross_entropy(self.beside(features), labels)
        return ModelOutput(logits, loss)
