"""Data, model and a callback of the runs that version 0.1 recorded; any version of the engine can import them."""

import os
import signal

import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Run
from reprise.data import Data, Description, TensorSplit, fingerprint, stack
from reprise.models import ModelOutput
from reprise.randomness import numpy_generator


def load_points(*, seed: int) -> Data:
    """Return 64 training, 16 validation and 16 test points of 4 coordinates; the class is the largest of 3."""
    splits = {}
    for name, num_samples in (("train", 64), ("val", 16), ("test", 16)):
        inputs = torch.from_numpy(numpy_generator("version 0.1", name).normal(size=(num_samples, 4))).float()
        splits[name] = TensorSplit({"inputs": inputs, "labels": inputs[:, :3].argmax(1)})
    description = Description(
        name="points",
        task="tabular-classification",
        labels=("a", "b", "c"),
        fingerprints={name: fingerprint(*split.columns.values()) for name, split in splits.items()},
    )
    return Data(splits=splits, collate=stack, description=description, facts={"num_labels": 3})


class Net(nn.Module):
    def __init__(self, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, num_labels))

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.layers(inputs)  # (B, C)
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


class StopAt(Callback):
    """Sends its own process the signal of a scheduler after `step` optimizer steps."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, run: Run) -> None:
        if run.loop.step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)
