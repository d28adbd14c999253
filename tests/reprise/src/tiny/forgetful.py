"""A model that remembers and draws what no checkpoint holds."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.models import ModelOutput
from tiny.images import SIZE

DRAWS = random.Random(0)


class Forgetful(nn.Module):
    """Scales its inputs by what it has seen, or by what it draws; `way` says where that is kept."""

    seen: Tensor

    def __init__(self, *, way: str, num_labels: int, **sizes: Any) -> None:
        super().__init__()
        self.scale = Scale(way)
        self.head = nn.Linear(SIZE * SIZE, num_labels)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.head(self.scale(pixel_values.flatten(1)))
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


class Scale(nn.Module):
    seen: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        if way == "attribute":
            self.seen = torch.zeros(())
        else:
            self.register_buffer("seen", torch.zeros(()), persistent=way != "buffer")
        self.held = {"torch": torch.Generator(), "numpy": np.random.default_rng(0)}
        for generator in self.held.values():
            if isinstance(generator, torch.Generator):
                generator.manual_seed(0)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        draws = {
            "torch": lambda: float(torch.rand((), generator=self.held["torch"])),
            "numpy": lambda: float(self.held["numpy"].random()),
            "module": DRAWS.random,
            "global": lambda: random.random() + float(np.random.rand() + torch.rand(())),
        }
        if self.way in draws:
            return inputs * (1 + draws[self.way]())
        self.seen += inputs.detach().mean().abs()
        return inputs * (1 + self.seen)


class SavesItself(Forgetful):
    """Returns the state of its generator to whoever saves it."""

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"generator": self.scale.held["torch"].get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.scale.held["torch"].set_state(state["generator"])
