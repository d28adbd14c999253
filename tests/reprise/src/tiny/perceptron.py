"""A model for the tiny images that needs torch alone, so that a process of its own starts quickly."""

from torch import Tensor, nn
from torch.nn import functional

from reprise.config import Fraction, PositiveInt, Probability
from reprise.errors import InputError
from reprise.models import ModelOutput


class Perceptron(nn.Module):
    """Blocks of two layers on top of an embedding of the pixels; its `label_smoothing` counts in training only."""

    def __init__(
        self,
        *,
        hidden_size: PositiveInt,
        num_layers: PositiveInt,
        dropout: Probability,
        num_groups: PositiveInt,
        intermediate_size: PositiveInt,
        label_smoothing: Fraction = 0.0,
        image_size: PositiveInt,
        num_channels: PositiveInt,
        num_labels: PositiveInt,
    ) -> None:
        super().__init__()
        if hidden_size % num_groups:
            raise InputError(
                f"model.num_groups: expected a divisor of model.hidden_size {hidden_size}, got {num_groups}"
            )
        self.embedding = nn.Linear(num_channels * image_size**2, hidden_size)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(num_groups, hidden_size),
                nn.Linear(hidden_size, intermediate_size),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(intermediate_size, hidden_size),
            )
            for _ in range(num_layers)
        )
        self.classifier = nn.Linear(hidden_size, num_labels)
        self.label_smoothing = label_smoothing

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = self.embedding(pixel_values.flatten(1))  # (B, hidden_size)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        logits = self.classifier(hidden)
        if labels is None:
            return ModelOutput(logits)
        smoothing = self.label_smoothing if self.training else 0.0
        return ModelOutput(logits, functional.cross_entropy(logits, labels, label_smoothing=smoothing))
