"""What a data set is here.

A data set is a function with keyword arguments that returns a `Data`. Name it in YAML as `_target_`, beside its
arguments. Of what the run knows it may take, by name and without the YAML saying so: `seed`, for splitting.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]

MASKED = -100
"""The label of what is left out, as in torch's losses; of labels that are integers only."""


class MapStyle(Protocol):
    """Anything with a length and samples by index: `torch.utils.data.Dataset`, a `datasets.Dataset`, a list.

    `__getitem__` may draw from the global generators of Python, NumPy and torch: they are put at an address of
    (seed, epoch, index) before each call. A split that also has `get_batch(indices, draws)` is asked for whole
    batches at once, already collated; its random numbers come from `draws`, a `reprise.randomness.SampleDraws`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Drawing(Protocol):
    """A split whose samples draw random numbers: `draws` is at an address of (seed, epoch, index), too.

    A generator of its own would repeat its numbers in each loader process, and not be where it was in a resumed run.
    """

    def __len__(self) -> int: ...

    def get_sample(self, index: int, draws: np.random.Generator, /) -> Any: ...


Split = MapStyle | Drawing


def count_labels(batch: Batch) -> int:
    """Return how many items the loss of `batch` is a mean over.

    These are its `labels`, without those that are integers and `MASKED`; a batch without labels has its rows.
    """
    labels = batch.get("labels")
    if labels is None:
        return len(next(iter(batch.values())))
    if labels.is_floating_point() or labels.is_complex():  # as what is to be predicted, -100.0 is a number like others
        return labels.numel()
    return int(np.count_nonzero(labels.numpy() != MASKED))  # batches are counted on the host


def counter_of(split: Split, count_items: Callable[[Batch], int]) -> Callable[[Batch], int]:
    """Return what counts the items in batches of `split`: where no label of it is masked, it need not look at them."""
    # What augments a batch, and a class of one's own, may mask what the columns hold.
    if count_items is count_labels and type(split) is TensorSplit and split.augment is None:
        labels = split.columns.get("labels")
        if labels is not None and count_labels({"labels": labels}) == labels.numel():
            return lambda batch: batch["labels"].numel()
    return count_items


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch from the host on `device`; nothing waits for the copy."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@dataclass(frozen=True)
class Description:
    """What is known about a data set; it ends in `provenance.json` and in the model card."""

    name: str
    """Short, as one would call it in a sentence."""
    task: str
    """Task identifier of the Hugging Face Hub, such as `image-classification`."""
    summary: str = ""
    source: str = ""
    license: str = ""
    language: str | None = None
    """ISO 639-1 code, for text."""
    labels: tuple[str, ...] = ()
    """Name of each class, by class number."""
    caveats: tuple[str, ...] = ()
    """What a reader of the scores must know, one sentence each."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the content of each split, see `fingerprint`."""


@dataclass(frozen=True)
class Data:
    """Named splits with all that a run needs to use and describe them."""

    splits: Mapping[str, Split]
    """`train` and `val`, and `test` where there is one."""
    collate: Callable[[list[Any]], Batch]
    """Makes a batch of a list of samples; the batch's keys are the arguments of the model's `forward`."""
    description: Description
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that a model or a metric may take by name: `num_labels`, `vocab_size` …"""
    processor: Any = None
    """What turns raw input into the model's, such as a tokenizer; its `save_pretrained` puts it into the export."""
    count_items: Callable[[Batch], int] = count_labels
    """How many items the model's loss of a batch is a mean over, so that means over batches are exact; 0 where the
    loss is a mean over nothing: such a batch changes no weight and no score."""
    baselines: Mapping[str, Callable[[], Mapping[str, float]]] = field(default_factory=dict)
    """Simple methods by name; each returns metrics of the test split, named as the run's metrics are."""
    generate: Callable[[nn.Module, int], Sequence[str]] | None = None
    """Takes the trained model, in evaluation mode, and a seed; returns samples of what it writes, for the card."""
    usage: str = ""
    """Python lines that define `batch`, from raw input, for the example in the model card."""


def describe_data(data: Data) -> dict[str, Any]:
    """Return the description of a data set with the size and fingerprint of each split."""
    description = data.description
    return {
        "name": description.name,
        "task": description.task,
        "summary": description.summary,
        "source": description.source,
        "license": description.license,
        "language": description.language,
        "labels": list(description.labels),
        "caveats": list(description.caveats),
        "splits": {
            name: {"num_samples": len(split), "sha256": description.fingerprints.get(name)}
            for name, split in data.splits.items()
        },
    }


class TensorSplit:
    """A split that is held in memory as whole tensors, one for each argument of the model.

    `columns`: tensors with equal first dimensions. `augment(batch, draws)` changes a freshly fetched batch; each
    sample must use its own row of the random numbers.
    """

    def __init__(self, columns: Mapping[str, Tensor], augment: Callable[[Batch, Any], Batch] | None = None) -> None:
        self.columns = dict(columns)
        self.augment = augment
        (self._length,) = {len(column) for column in self.columns.values()}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        return {name: column[index] for name, column in self.columns.items()}

    def get_batch(self, indices: np.ndarray[Any, np.dtype[np.int64]], draws: Any) -> Batch:
        rows = torch.from_numpy(indices)
        batch = {name: column.index_select(0, rows) for name, column in self.columns.items()}
        return batch if self.augment is None else self.augment(batch, draws)


def stack(samples: list[Batch]) -> Batch:
    """Collate samples whose tensors have equal shapes."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def fingerprint(*content: Tensor | np.ndarray[Any, Any] | str | Sequence[str]) -> str:
    """Return the sha256 of some content: arrays with their shapes and types, strings with their lengths."""
    digest = hashlib.sha256()
    for part in content:
        if isinstance(part, Tensor | np.ndarray):
            array = np.ascontiguousarray(part.numpy() if isinstance(part, Tensor) else part)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
        else:
            for text in [part] if isinstance(part, str) else part:
                encoded = text.encode()
                digest.update(f"{len(encoded)}:".encode())
                digest.update(encoded)
    return digest.hexdigest()
