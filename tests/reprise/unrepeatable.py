"""A model with an operation that has no deterministic implementation, not even on a CPU: `put_`."""

import torch
from tiny.perceptron import Perceptron
from torch import Tensor

from reprise.models import ModelOutput


class Unrepeatable(Perceptron):
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
        return super().forward(pixel_values, labels)
