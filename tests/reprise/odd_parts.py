"""Data, models, metrics and callbacks of users that are odd in one way each, for runs of a second on tiny images."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tiny.hugging_face import build_bert
from tiny.images import NUM_LABELS, load_images
from torch import Tensor, nn

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.data import Data, TensorSplit
from reprise.metrics import Metric
from reprise.models import ModelOutput

OWN = "trusted_packages=[odd_parts]"


def part(kind: str, name: str) -> str:
    """Return the override that puts a part of this module into a config: `kind` is a key such as `model`."""
    return f"{kind}._target_=odd_parts.{name}"


# Data


def load_plain(*, seed: int, **options: Any) -> Data:
    return load_images(seed=seed, **options)


def _with_facts(seed: int, options: Mapping[str, Any], **facts: Any) -> Data:
    data = load_images(seed=seed, **options)
    return replace(data, facts={**data.facts, **facts})


def load_numbered(*, seed: int, **options: Any) -> Data:
    """Names of classes are NumPy's integers, and so are numbers of classes and sizes."""
    names = list(np.arange(NUM_LABELS))
    data = _with_facts(seed, options, label_names=names, num_labels=np.int64(NUM_LABELS), image_size=torch.tensor(8))
    return replace(data, description=replace(data.description, labels=tuple(names)))


def load_few_names(*, seed: int, **options: Any) -> Data:
    return _with_facts(seed, options, label_names=["one", "two"])


def load_mapped_names(*, seed: int, **options: Any) -> Data:
    return _with_facts(seed, options, label_names={number: f"class {number}" for number in range(NUM_LABELS)})


def load_few_labels(*, seed: int, **options: Any) -> Data:
    data = load_images(seed=seed, **options)
    return replace(data, description=replace(data.description, labels=("one", "two")))


def load_odd_description(*, seed: int, **options: Any) -> Data:
    data = load_images(seed=seed, **options)
    caveats: Any = ({"leaks": {1, 2}},)
    return replace(data, description=replace(data.description, caveats=caveats))


def load_weights(*, seed: int, **options: Any) -> Data:
    return _with_facts(seed, options, class_weights=torch.ones(NUM_LABELS))


def load_empty_test(*, seed: int, **options: Any) -> Data:
    data = load_images(seed=seed, **options)
    empty = TensorSplit({"pixel_values": torch.zeros(0, 1, 8, 8), "labels": torch.zeros(0, dtype=torch.long)})
    return replace(data, splits={**data.splits, "test": empty})


def load_bare_processor(*, seed: int, **options: Any) -> Data:
    return replace(load_images(seed=seed, **options), processor=str.lower)


def load_broken_baseline(*, seed: int, **options: Any) -> Data:
    def broken() -> dict[str, float]:
        raise MemoryError("a baseline of its own")

    data = load_images(seed=seed, **options)
    return replace(data, baselines={"broken": broken, **data.baselines})


def load_broken_samples(*, seed: int, **options: Any) -> Data:
    def generate(model: nn.Module, seed: int) -> list[str]:
        raise KeyError("no such token")

    return replace(load_images(seed=seed, **options), generate=generate)


class _FailsAtTheEnd(TensorSplit):
    def get_batch(self, indices: Any, draws: Any) -> Any:
        raise OSError("the test images are elsewhere")


def load_broken_test(*, seed: int, **options: Any) -> Data:
    data = load_images(seed=seed, **options)
    test: Any = data.splits["test"]
    return replace(data, splits={**data.splits, "test": _FailsAtTheEnd(test.columns, augment=lambda batch, _: batch)})


class Listed:
    """Samples by index, so that nobody sees the labels before they are fetched."""

    def __init__(self, split: Any, unknown: int | None = None) -> None:
        self._split = split
        if unknown is not None:
            split.columns["labels"][unknown] = 10

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Any:
        return self._split[index]


def load_unknown_label(*, split: str, held: bool = True, seed: int, **options: Any) -> Data:
    """Return images of which one, in the middle of a split, has label 10 of the classes 0 to 9."""
    data = load_images(seed=seed, **options)
    splits: Any = {name: TensorSplit(part.columns) for name, part in data.splits.items()}  # type: ignore[attr-defined]
    middle = len(splits[split]) // 2
    if not held:
        splits = {name: Listed(part, middle if name == split else None) for name, part in splits.items()}
    else:
        splits[split].columns["labels"][middle] = 10
    return replace(data, splits=splits)


def load_same_names(*, seed: int, **options: Any) -> Data:
    data = load_images(seed=seed, **options)
    return replace(data, description=replace(data.description, labels=("same",) * NUM_LABELS))


def load_unnumbered(*, seed: int, **options: Any) -> Data:
    """Nothing says how many classes there are."""
    data = load_unknown_label(seed=seed, **options)
    return replace(data, facts={}, description=replace(data.description, labels=()))


def load_other_mask(*, seed: int, **options: Any) -> Data:
    """Has labels of -1 that its own count leaves out."""
    data = load_images(seed=seed, **options)
    for one in data.splits.values():
        one.columns["labels"][0] = -1  # type: ignore[attr-defined]
    return replace(data, count_items=lambda batch: int((batch["labels"] >= 0).sum()))


# Models


class Net(nn.Module):
    """One layer over the pixels."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.head = nn.Linear(64, NUM_LABELS)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.head(self.features(pixel_values.flatten(1)))
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))

    def features(self, pixels: Tensor) -> Tensor:
        return pixels


class Normed(Net):
    """Has a batch norm over values of which a sample has one for each channel."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm1d(64)

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.norm(pixels)
        return features


class NormedImages(Normed):
    """Has a batch norm over images, of which one is enough."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def features(self, pixels: Tensor) -> Tensor:
        return super().features(pixels.reshape(-1, 1, 8, 8)).flatten(1)


class OtherMask(Net):
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.head(pixel_values.flatten(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels, ignore_index=-1)
        return ModelOutput(logits, loss)


class Embedding(Net):
    """Looks up a vector for each label, of which there are too few."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.vectors = nn.Embedding(9, 10)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.head(pixel_values.flatten(1))
        return ModelOutput(logits, None if labels is None else (logits - self.vectors(labels)).square().mean())


class HiddenNorm(Net):
    """Normalises by the batch without a module that says so."""

    def features(self, pixels: Tensor) -> Tensor:
        return nn.functional.batch_norm(pixels, None, None, training=self.training or len(pixels) > 1)


class NormedByBatch(Net):
    def features(self, pixels: Tensor) -> Tensor:
        return nn.functional.batch_norm(pixels, None, None, training=True)


class Weighted(Net):
    def __init__(self, class_weights: Tensor, **sizes: Any) -> None:
        super().__init__()
        self.register_buffer("weights", class_weights)


class WithBackbone(Net):
    """Leaves a frozen layer out of its state."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.backbone = nn.Linear(64, 64).requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.backbone(pixels)
        return features

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        state = super().state_dict(*arguments, **options)
        return {name: value for name, value in state.items() if not name.startswith("backbone.")}


class WithRandomBackbone(WithBackbone):
    """Takes back the state without that layer, which is drawn at random."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state, strict=False, assign=assign)


class WithFixedBackbone(WithRandomBackbone):
    """Has in that layer what no seed changes, as if it came from a file."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        nn.init.eye_(self.backbone.weight)
        nn.init.zeros_(self.backbone.bias)


class Unreached(Net):
    """Has a lazy layer that no pass reaches."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.spare = nn.LazyLinear(NUM_LABELS)


class Growing(Net):
    """Makes an entry of its state in the first forward pass."""

    def features(self, pixels: Tensor) -> Tensor:
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.ones(64))
        return pixels * self.table


class Resizing(Net):
    """Gives a buffer its size in the first forward pass, as some observers for quantization do."""

    low: Tensor

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(0))

    def features(self, pixels: Tensor) -> Tensor:
        if not len(self.low):
            self.low.resize_(64).zero_()
        return pixels - self.low


@functools.wraps(build_bert)
def build_bert_with_more(**sizes: Any) -> nn.Module:
    """Return a model of transformers with a layer that its class does not know."""
    model = build_bert(**sizes)
    model.more = nn.Linear(2, 2)
    return model


class Unsaved(Net):
    def get_extra_state(self) -> Any:
        return {"model": object()}

    def set_extra_state(self, state: Any) -> None:
        pass


class OneWay(Net):
    """Returns a state that it does not take back."""

    def get_extra_state(self) -> Any:
        return {"seen": 3}


class Sparse(Net):
    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.register_buffer("graph", torch.eye(3).to_sparse())


class Tuples(Net):
    """Returns loss and logits as models of `transformers` do with `return_dict=False`."""

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        outputs = super().forward(pixel_values, labels)
        return outputs.loss, outputs.logits


class Rounded(Net):
    """Keeps its weights in its state with fewer digits."""

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        state = super().state_dict(*arguments, **options)
        return {name: value.half() for name, value in state.items()}


class Counting(nn.Module):
    """A layer that counts batches of training and keeps what was in them, of all kinds that a state may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.means = 0, torch.zeros(0)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
            self.means = torch.cat([self.means, pixels.detach().mean().view(1)])
        return pixels * (1 + 0.01 * self.seen)

    def get_extra_state(self) -> Any:
        return {"seen": self.seen, "means": self.means, "kind": ("counter", 1, b"\x00", float("inf")), 7: "seven"}

    def set_extra_state(self, state: Any) -> None:
        self.seen, self.means = state["seen"], state["means"]
        assert state["kind"] == ("counter", 1, b"\x00", float("inf"))
        assert state[7] == "seven"


class WithExtraState(Net):
    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.counting = Counting()

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.counting(pixels)
        return features


class Views(Net):
    """Two parameters that are views of one tensor, one that is not contiguous, and one that is tied."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        both = torch.randn(2, 64)
        self.scale, self.shift = nn.Parameter(both[0]), nn.Parameter(both[1])
        self.turned = nn.Parameter(torch.randn(64, NUM_LABELS).t())
        self.again = self.scale

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ModelOutput:
        features = pixel_values.flatten(1) * self.scale + self.shift + self.again
        logits = self.head(features) + features @ self.turned.t()
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


# Metrics


class Mean(Metric):
    """The mean logit; its details are what NumPy and torch return."""

    names = ("mean",)

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._sum, self._num = 0.0, 0

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        self._sum += float(outputs.logits.double().sum())
        self._num += outputs.logits.numel()

    def compute(self) -> dict[str, float]:
        return {"mean": self._sum / self._num}

    def details(self) -> dict[str, Any]:
        values = {"array": np.arange(3), "tensor": torch.tensor([0.5]), "undefined": float("nan")}
        return {**values, "count": np.int64(self._num), "by class": {np.int64(1): (1, 2)}}

    def predictions(self) -> list[dict[str, Any]]:
        return [{"index": np.int64(index)} for index in range(2)]

    def baselines(self) -> dict[str, dict[str, float]]:
        return {"nothing": {"mean": np.float32(0.5)}}


class OddDetails(Mean):
    def details(self) -> dict[str, Any]:
        return {"by class": [{"seen": {1, 2}}]}


class BrokenPredictions(Mean):
    def predictions(self) -> list[dict[str, Any]]:
        return [{"index": self.index}]  # type: ignore[attr-defined]


class SameName(Mean):
    """Has the name of a number that another metric computes."""

    names = ("accuracy",)

    def compute(self) -> dict[str, float]:
        return {"accuracy": 0.5}


class OtherLoss(Mean):
    names = ("loss",)

    def compute(self) -> dict[str, float]:
        return {"loss": 0.5}


class Pairs(Mean):
    def compute(self) -> Any:
        return [("mean", 0.5)]


class UndefinedDetails(Mean):
    """Cannot tell of one batch; fails when it is asked at the end, too."""

    def details(self) -> dict[str, Any]:
        raise ZeroDivisionError("too few samples")


# Callbacks


class FailsOnResults(Callback):
    def on_results(self, run: Run) -> None:
        raise ValueError("a callback's own")


class FailsAtTheEnd(Callback):
    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        raise ValueError("a callback's own")
