"""A model of 101 million parameters in a few large layers; what it learns does not matter."""

import torch
from torch import Tensor, nn

from workloads.perceptron import NUM_FEATURES, NUM_LABELS, Output


class Wide(nn.Module):
    def __init__(self, hidden_size: int = 4096, num_layers: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, hidden_size)
        self.layers = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_layers))
        self.last = nn.Linear(hidden_size, NUM_LABELS)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Output:
        hidden = self.first(inputs)  # (B, H)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        logits = self.last(hidden)  # (B, C)
        return Output(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))
