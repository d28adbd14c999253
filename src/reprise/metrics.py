"""Computes metrics from predictions and labels, batch by batch. How they are recorded: `reprise.runs.metrics_log`."""

import abc
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reprise.data import MASKED
from reprise.data.labels import outside_of_classes
from reprise.errors import InputError
from reprise.randomness.addresses import bootstrap_generator

__all__ = [
    "ClassificationMetrics",
    "LanguageModelMetrics",
    "Metric",
    "weighted_sum",
]


class Metric(abc.ABC):
    """Turns predictions and labels, batch by batch, into named numbers.

    `names` lists what `compute` returns, so that `training.monitor` can be checked before anything runs. Arguments of
    the constructor that are facts of the data (`num_labels`, `label_names` …) are given by the run.
    """

    names: ClassVar[tuple[str, ...]]
    per_batch: ClassVar[tuple[str, ...]] = ()
    """Attributes that are lists to which `update` adds one value, such as a tensor, for each batch; and that is all it
    does. With several processes, metrics that name them are fed a share of the batches in each, and joined by these
    lists; one that names none has every process score every batch."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    @abc.abstractmethod
    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        """Take in one batch: the model's outputs and the mean loss in them, over `num_items` items, which may be 0."""

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the numbers over all batches since `reset`; sums and counts, never a mean of means.

        What is a mean over nothing is left out. Of a split without any item nothing of a metric is asked for.
        """

    def details(self) -> dict[str, Any]:
        """Return what `results/metrics.json` holds beyond the numbers, as plain values."""
        return {}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what answers that need no model reach on the same labels: names as in `compute`, by method."""
        return {}

    def predictions(self) -> list[dict[str, Any]]:
        """Return one record for each sample that counts, in the order of the split, for `results/predictions.json`."""
        return []

    def batch_values(self) -> dict[str, list[Any]]:
        """Return the lists of `per_batch`, on the host."""
        return {name: [v.cpu() if isinstance(v, Tensor) else v for v in getattr(self, name)] for name in self.per_batch}

    def join(self, parts: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Be as if this metric had been fed all batches of `parts`, one part after the other."""
        everything = list(parts)
        for name in self.per_batch:
            setattr(self, name, [value for part in everything for value in part[name]])


class ClassificationMetrics(Metric):
    """Accuracy, and precision, recall and F1 as means over classes that occur in labels or predictions.

    Each sample has one label, an integer; samples whose label is masked with -100 are left out everywhere. A class
    without predictions has precision 0, as in scikit-learn's `zero_division=0`. Intervals are 95 % percentile intervals
    of the bootstrap over samples (Efron and Tibshirani 1993, chapter 13).

    Raises:
        InputError: if the shapes of logits and labels do not fit `num_labels`, or a label is outside of the classes.
    """

    names = ("accuracy", "macro_f1", "macro_precision", "macro_recall")
    per_batch = ("_labels", "_predicted", "_probabilities")

    def __init__(self, num_labels: int, label_names: Sequence[str] = (), num_bootstrap_samples: int = 1000) -> None:
        self._num_labels = num_labels
        self._label_names = list(label_names) or [str(i) for i in range(num_labels)]
        self._num_bootstrap_samples = num_bootstrap_samples
        self.reset()

    def reset(self) -> None:
        self._labels: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        logits, labels = outputs.logits.detach(), batch["labels"]  # (B, C), (B,)
        if labels.is_floating_point() or labels.dim() != 1 or logits.shape != (len(labels), self._num_labels):
            raise InputError(
                f"{type(self).__name__}: expected for each sample a label, an integer, and {self._num_labels} logits, "
                f"one for each class; got {labels.dtype} labels of shape {tuple(labels.shape)} and logits of shape "
                f"{tuple(logits.shape)}. {self._origin}"
            )
        probabilities, predicted = logits.float().softmax(-1).max(-1)  # (B,), (B,)
        self._labels.append(labels)
        self._predicted.append(predicted)
        self._probabilities.append(probabilities)

    def compute(self) -> dict[str, float]:
        confusion = self._confusion()
        if not confusion.any():
            return {}
        return {name: float(value) for name, value in _classification_scores(confusion).items()}

    def details(self) -> dict[str, Any]:
        confusion = self._confusion()
        num_samples = int(confusion.sum())
        if not num_samples:
            return {}
        # Resampling samples with replacement is resampling the cells of the confusion matrix.
        resampled = bootstrap_generator(num_samples).multinomial(
            num_samples, confusion.ravel() / num_samples, size=self._num_bootstrap_samples
        )  # (bootstrap samples, C * C)
        scores = _classification_scores(resampled.reshape(-1, *confusion.shape))
        return {
            "num_samples": num_samples,
            "intervals": {
                name: [float(bound) for bound in np.percentile(values, [2.5, 97.5])] for name, values in scores.items()
            },
            "confusion_matrix": {"labels": self._label_names, "counts": confusion.tolist()},
        }

    def baselines(self) -> dict[str, dict[str, float]]:
        num_labels = self._confusion().sum(1)
        if not num_labels.any():
            return {}
        return {"most frequent class": {"accuracy": float(num_labels.max() / num_labels.sum())}}

    def predictions(self) -> list[dict[str, Any]]:
        columns = (torch.cat(parts).cpu().tolist() for parts in (self._labels, self._predicted, self._probabilities))
        return [
            {
                "index": index,
                "label": self._label_names[label],
                "prediction": self._label_names[predicted],
                "probability": probability,
            }
            for index, (label, predicted, probability) in enumerate(zip(*columns, strict=True))
            if label != MASKED
        ]

    def _confusion(self) -> NDArray[np.int64]:
        labels, predicted = torch.cat(self._labels).cpu().long(), torch.cat(self._predicted).cpu()
        if outside := outside_of_classes(labels, self._num_labels):
            raise InputError(f"{type(self).__name__}: {outside}. {self._origin}")
        is_counted = labels != MASKED
        labels, predicted = labels[is_counted], predicted[is_counted]
        cells = torch.bincount(labels * self._num_labels + predicted, minlength=self._num_labels**2)
        return cells.numpy().reshape(self._num_labels, self._num_labels)

    @property
    def _origin(self) -> str:
        return f"num_labels is {self._num_labels}: a fact of the data set, unless the config gives it to this metric"


def _classification_scores(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return each score of confusion matrices (..., labels, predictions), shape (...)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)  # (..., C)
    num_labels, num_predicted = confusion.sum(-1), confusion.sum(-2)
    occurs = (num_labels + num_predicted) > 0

    def mean_over_classes(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
        ratios = np.divide(numerator, denominator, out=np.zeros_like(hits), where=denominator > 0)
        return np.asarray(ratios.sum(-1) / np.maximum(occurs.sum(-1), 1))

    return {
        "accuracy": np.asarray(hits.sum(-1) / confusion.sum((-2, -1))),
        "macro_f1": mean_over_classes(2 * hits, num_labels + num_predicted),
        "macro_precision": mean_over_classes(hits, num_predicted),
        "macro_recall": mean_over_classes(hits, num_labels),
    }


class LanguageModelMetrics(Metric):
    """Perplexity of a token, and bits for a character of the text.

    `character_starts`: for each token of the vocabulary whether a character begins with it (all of them for
    characters, not the continuation bytes of UTF-8 for bytes), so that tokenizers can be compared.
    """

    names = ("perplexity", "bits_per_character")
    per_batch = ("_nats", "_num_tokens", "_num_characters")

    def __init__(self, character_starts: Tensor) -> None:
        self._character_starts = character_starts
        self.reset()

    def reset(self) -> None:
        self._nats: list[Tensor] = []
        self._num_tokens: list[Tensor] = []
        self._num_characters: list[Tensor] = []

    def update(self, outputs: Any, batch: Mapping[str, Tensor], num_items: int) -> None:
        targets = batch["labels"][:, 1:]  # (B, T - 1): a token is predicted from those before it
        logits = outputs.logits[:, :-1].float().transpose(1, 2)  # (B, V, T - 1)
        counted = targets != MASKED
        starts = self._character_starts.to(targets.device)[targets.clamp(min=0)]
        self._nats.append(functional.cross_entropy(logits, targets, reduction="none").sum(1))
        self._num_tokens.append(counted.sum(1))
        self._num_characters.append((starts & counted).sum(1))

    def compute(self) -> dict[str, float]:
        nats, num_tokens, num_characters = self._totals()
        scores = {}
        if num_tokens:
            scores["perplexity"] = math.exp(nats / num_tokens) if nats / num_tokens < _LARGEST_EXPONENT else math.inf
        if num_characters:
            scores["bits_per_character"] = nats / math.log(2) / num_characters
        return scores

    def details(self) -> dict[str, Any]:
        _, num_tokens, num_characters = self._totals()
        return {"num_tokens": num_tokens, "num_characters": num_characters}

    def predictions(self) -> list[dict[str, Any]]:
        columns = (torch.cat(parts).cpu().tolist() for parts in (self._nats, self._num_tokens, self._num_characters))
        return [
            {"index": index, "nats": nats, "num_tokens": num_tokens, "num_characters": num_characters}
            for index, (nats, num_tokens, num_characters) in enumerate(zip(*columns, strict=True))
        ]

    def _totals(self) -> tuple[float, int, int]:
        nats = math.fsum(torch.cat(self._nats).cpu().tolist())
        return nats, int(torch.cat(self._num_tokens).sum()), int(torch.cat(self._num_characters).sum())


_LARGEST_EXPONENT = math.log(sys.float_info.max)


def weighted_sum(means: Sequence[Tensor], num_items: Sequence[int]) -> float:
    """Return the sum over all items of batch means and their sizes, exact on ragged batches; reads the device once."""
    values = torch.stack(list(means)).float().cpu().tolist()
    # The mean of a batch without items is not a number, and says nothing.
    return math.fsum(value * num for value, num in zip(values, num_items, strict=True) if num)
