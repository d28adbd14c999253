"""The figures of a run: of which split, which one comes first, with intervals, baselines and confusions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reprise.files.json_values import as_number, list_at, mapping_at, numbers, text_at
from reprise.text.numbers import Interval, wilson_interval


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, from a confusion matrix."""

    name: str
    num_samples: int
    num_predicted: int
    num_hits: int

    @property
    def precision(self) -> float | None:
        return self.num_hits / self.num_predicted if self.num_predicted else None

    @property
    def recall(self) -> float | None:
        return self.num_hits / self.num_samples if self.num_samples else None

    @property
    def precision_interval(self) -> Interval | None:
        return wilson_interval(self.num_hits, self.num_predicted) if self.num_predicted else None

    @property
    def recall_interval(self) -> Interval | None:
        return wilson_interval(self.num_hits, self.num_samples) if self.num_samples else None


@dataclass(frozen=True)
class ConfusionMatrix:
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    """By label, then by prediction."""

    @property
    def num_samples(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def num_hits(self) -> int:
        return sum(row[index] for index, row in enumerate(self.counts))

    @property
    def classes(self) -> list[ClassFigures]:
        return [
            ClassFigures(label, sum(row), sum(other[index] for other in self.counts), row[index])
            for index, (label, row) in enumerate(zip(self.labels, self.counts, strict=True))
        ]


@dataclass(frozen=True)
class Scores:
    """Figures of one checkpoint."""

    metrics: Mapping[str, float]
    results: Mapping[str, Any]
    not_stated: tuple[str, ...] = ()
    """Metrics of the validation that are left out, since another file has another figure."""

    @cached_property
    def validation(self) -> dict[str, float]:
        """What the evaluation measured that the checkpoint was saved with, by flat name."""
        found = numbers(mapping_at(self.results, "validation_metrics"))
        return {name: value for name, value in found.items() if name not in self.not_stated}

    @cached_property
    def split(self) -> str | None:
        """The split that the figures are of; None where their names do not say."""
        named = text_at(self.results, "split")
        splits = {name.partition("/")[0] for name in self.metrics if "/" in name}
        return named or next((split for split in ("test", "val", "train") if split in splits), None)

    @cached_property
    def values(self) -> dict[str, float]:
        """The figures of the split, by bare name."""
        if self.split is None:
            return dict(self.metrics)
        prefix = f"{self.split}/"
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Figures of simple methods, by method and bare name."""
        return {name: numbers(scores) for name, scores in mapping_at(self.results, "baselines").items()}

    @property
    def compared(self) -> list[str]:
        """Bare names of the metrics that baselines have."""
        return list(dict.fromkeys(name for scores in self.baselines.values() for name in scores))

    @cached_property
    def headline(self) -> str | None:
        """Bare name of the metric that a reader asks for first."""
        ordered = ["accuracy", *self.compared, *(name for name in self.values if name != "loss"), "loss"]
        return next((name for name in ordered if name in self.values), None)

    @property
    def by_split(self) -> dict[str, dict[str, float]]:
        """All figures of the checkpoint, by split and bare name; the split is "" where a name has none."""
        found: dict[str, dict[str, float]] = {split: {} for split in ("train", "val", "test")}
        for flat_name, value in {**self.validation, **self.metrics}.items():
            split, _, name = flat_name.rpartition("/")
            found.setdefault(split, {})[name] = value
        return {split: scores for split, scores in found.items() if scores}

    @property
    def names(self) -> list[str]:
        """Bare names of all figures."""
        return list(dict.fromkeys(name for scores in reversed(self.by_split.values()) for name in scores))

    @cached_property
    def confusion_matrix(self) -> ConfusionMatrix | None:
        for details in mapping_at(self.results, "details").values():
            counts = [row for row in list_at(details, "confusion_matrix", "counts") if isinstance(row, list | tuple)]
            labels = [str(label) for label in list_at(details, "confusion_matrix", "labels")]
            are_counts = all(type(cell) is int and cell >= 0 for row in counts for cell in row)
            if counts and are_counts and all(len(row) == len(labels) == len(counts) for row in counts):
                return ConfusionMatrix(labels, counts)
        return None

    def hardest_classes(self, most: int) -> list[ClassFigures]:
        """Return all classes, of more than `most` those of the lowest recall."""
        classes = self.confusion_matrix.classes if self.confusion_matrix else []
        if len(classes) <= most:
            return classes
        return sorted((c for c in classes if c.recall is not None), key=lambda c: c.recall or 0.0)[:most]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % intervals by bare name; that of the accuracy is Wilson's where the counts are known."""
        found: dict[str, Interval] = {}
        for details in mapping_at(self.results, "details").values():
            for name, bounds in mapping_at(details, "intervals").items():
                values = [as_number(bound) for bound in bounds] if isinstance(bounds, list | tuple) else []
                if len(values) == 2 and values[0] is not None and values[1] is not None:
                    found[name] = (values[0], values[1])
        matrix = self.confusion_matrix
        if matrix and matrix.num_samples and "accuracy" in self.values:
            accuracy = matrix.num_hits / matrix.num_samples
            if math.isclose(accuracy, self.values["accuracy"], abs_tol=1e-6):
                found["accuracy"] = wilson_interval(matrix.num_hits, matrix.num_samples)
        return found
