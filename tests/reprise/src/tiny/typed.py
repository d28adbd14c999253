"""A model whose parameters have other types than float32."""

from typing import Any

import torch
from torch import Tensor, nn

from reprise.models import ModelOutput
from tiny.images import SIZE


class Typed(nn.Module):
    """Two layers, of the types that are called `body` and `head`, with a batch norm between them."""

    def __init__(self, *, body: str, head: str, num_labels: int, **sizes: Any) -> None:
        super().__init__()
        first, second = getattr(torch, body), getattr(torch, head)
        self.first = nn.Linear(SIZE * SIZE, 8, dtype=first)
        self.norm = nn.BatchNorm1d(8, dtype=torch.float64 if first.is_complex else first)
        self.second = nn.Linear(8, num_labels, dtype=second)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = _real(self.first(pixel_values.flatten(1).to(self.first.weight.dtype)))  # (B, 8)
        hidden = self.norm(hidden.to(self.norm.weight.dtype))
        logits = _real(self.second(hidden.to(self.second.weight.dtype)))
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


def _real(values: Tensor) -> Tensor:
    return values.abs() if values.is_complex() else values
