"""A model that keeps what it sees, in evaluation too, as observers, codebooks and streaming statistics do."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from reprise.models import ModelOutput
from tiny.perceptron import Perceptron


class Observer(nn.Module):
    """Scales its inputs by what it has seen so far."""

    num_passes: Tensor
    total: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("num_passes", torch.zeros(()))
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("table", torch.zeros(1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.num_passes += 1
        self.total = self.total + inputs.detach().mean()
        if len(self.table) < len(inputs):
            self.table = 0.001 * torch.arange(len(inputs), device=inputs.device)
        scale = 1 + 0.01 * self.num_passes + torch.tanh(self.total) + self.table[: len(inputs)]  # (B,)
        return inputs * scale.view(-1, *[1] * (inputs.ndim - 1))


class Observing(Perceptron):
    @functools.wraps(Perceptron.__init__)  # its arguments are checked by its signature
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.observer = Observer()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return super().forward(self.observer(pixel_values), labels)
