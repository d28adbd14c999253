"""A multilayer perceptron: a model to start with."""

import itertools

from torch import Tensor, nn

from reprise.config import PositiveInt, Probability
from reprise.models import ModelOutput


class MLP(nn.Module):
    def __init__(
        self,
        hidden_size: PositiveInt,
        num_layers: PositiveInt,
        dropout: Probability,
        num_features: int,
        num_labels: int,
    ) -> None:
        super().__init__()
        sizes = [num_features] + [hidden_size] * num_layers
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_labels))

    def forward(self, features: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.layers(features)  # (B, num_labels)
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))
