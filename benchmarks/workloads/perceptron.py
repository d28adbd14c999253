"""A perceptron of two layers on points with 64 features: so little work that all else shows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from reprise.data import Data

NUM_FEATURES, NUM_LABELS, HIDDEN_SIZE = 64, 10, 128


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None


class Perceptron(nn.Module):
    """Starts from the same weights in every process, whatever was drawn before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, HIDDEN_SIZE)
        self.second = nn.Linear(HIDDEN_SIZE, NUM_LABELS)
        generator = torch.Generator().manual_seed(0)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Output:
        logits = self.second(torch.relu(self.first(inputs)))  # (B, C)
        return Output(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


def points(num_train: int = 8192, num_val: int = 256) -> dict[str, dict[str, Tensor]]:
    """Return the columns of each split; the labels are those of a linear classifier."""
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(NUM_FEATURES, NUM_LABELS, generator=generator)
    splits = {}
    for name, num_samples in {"train": num_train, "val": num_val}.items():
        inputs = torch.randn(num_samples, NUM_FEATURES, generator=generator)  # (N, 64)
        splits[name] = {"inputs": inputs, "labels": (inputs @ teacher).argmax(1)}
    return splits


def load_points(*, num_train: int, num_val: int, seed: int) -> "Data":
    from workloads.data import as_data

    return as_data(points(num_train, num_val), NUM_LABELS)
