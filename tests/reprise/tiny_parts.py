"""Data and a model of milliseconds, for runs whose bits are moved on purpose; they import nothing but torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprise.data import Batch, Data, Description, TensorSplit, fingerprint, stack
from reprise.models import ModelOutput
from reprise.randomness import SampleDraws, numpy_generator

NUM_FEATURES, NUM_LABELS = 64, 3
INITIAL_SCALE = 0.05


def write_data(path: Path) -> Path:
    """Write 96 samples of two splits that a small network can learn; return `path`."""
    splits = {}
    for name, num_samples in (("train", 80), ("val", 16)):
        inputs = numpy_generator("tiny parts", name).normal(size=(num_samples, NUM_FEATURES))
        splits[name] = {"inputs": inputs.tolist(), "labels": inputs[:, :NUM_LABELS].argmax(1).tolist()}
    path.write_text(json.dumps(splits))
    return path


def load_points(*, path: str, num_samples: int = 80, is_described: bool = True, seed: int) -> Data:
    """Return the samples in `path`, the first `num_samples` of training, with noise on those of training."""
    content = json.loads(Path(path).read_text())
    splits = {}
    for name, columns in content.items():
        length = num_samples if name == "train" else None
        tensors = {
            "inputs": torch.tensor(columns["inputs"][:length], dtype=torch.float32),
            "labels": torch.tensor(columns["labels"][:length]),
        }
        splits[name] = TensorSplit(tensors, augment=_add_noise if name == "train" else None)
    return _describe(splits, is_described)


def load_words(*, path: str, seed: int) -> Data:
    """Return the samples in `path` in the order of a set of names: what must not be done."""
    content = json.loads(Path(path).read_text())
    splits = {}
    for name, columns in content.items():
        rows = [int(word.removeprefix("row ")) for word in {f"row {i}" for i in range(len(columns["labels"]))}]
        inputs = torch.tensor(columns["inputs"], dtype=torch.float32)[rows]
        splits[name] = TensorSplit({"inputs": inputs, "labels": torch.tensor(columns["labels"])[rows]})
    return _describe(splits, True)


def load_unseeded(*, path: str, seed: int) -> Data:
    """Return the samples in `path` with noise that no seed reaches: what must not be done."""
    data = load_points(path=path, seed=seed)
    generator = torch.Generator()
    generator.seed()

    def augment(batch: Batch, draws: SampleDraws) -> Batch:
        return {**batch, "inputs": batch["inputs"] + torch.rand(batch["inputs"].shape, generator=generator)}

    data.splits["train"].augment = augment  # type: ignore[attr-defined]
    return data


def _describe(splits: dict[str, TensorSplit], is_described: bool) -> Data:
    prints = {name: fingerprint(*split.columns.values()) for name, split in splits.items()}
    description = Description(name="points", task="tabular-classification", fingerprints=prints if is_described else {})
    return Data(splits=splits, collate=stack, description=description, facts={"num_labels": NUM_LABELS})


def _add_noise(batch: Batch, draws: SampleDraws) -> Batch:
    noise = torch.from_numpy(draws.uniform(NUM_FEATURES)).float()
    return {**batch, "inputs": batch["inputs"] + 0.1 * noise}


class Net(nn.Module):
    """Two layers with dropout; the norm of the first one's weights is a sum that is shared out among threads."""

    def __init__(self, hidden_size: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(hidden_size, NUM_LABELS)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=INITIAL_SCALE)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        weight = self.first.weight * (16 / self.first.weight.norm())
        hidden = torch.relu(nn.functional.linear(inputs, weight, self.first.bias))  # (B, H)
        logits = self.second(self.dropout(hidden))  # (B, C)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ModelOutput(logits, loss)


class Descent:
    """Gradient descent. The optimizers of torch import its compiler, which takes longer than these runs."""

    def __init__(self, params: Sequence[Mapping[str, Any]], lr: float, weight_decay: float) -> None:
        self.param_groups = [{**group, "lr": lr} for group in params]

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(parameter.grad, alpha=-group["lr"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"lr": [group["lr"] for group in self.param_groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for group, rate in zip(self.param_groups, state["lr"], strict=True):
            group["lr"] = rate
