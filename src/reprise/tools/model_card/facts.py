"""What a card is written from. Any fact may be missing; then it is None, or empty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from reprise.errors import ConfigError
from reprise.files.json_values import as_number, at, list_at, mapping_at, numbers, text_at
from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import RunDirectory, find_run
from reprise.text.numbers import Interval, wilson_interval

CARD_KEYS = (
    "description",
    "authors",
    "license",
    "intended_use",
    "out_of_scope",
    "limitations",
    "ethical_considerations",
)
"""What only a person can write, in the order of the card."""


class ChecklistLine(Protocol):
    """One line of the reproducibility checklist; a `reprise.tools.checklist.Check` is one."""

    @property
    def title(self) -> str: ...

    @property
    def verdict(self) -> str: ...

    @property
    def evidence(self) -> str:
        """Text in which `code` may stand."""


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, from a confusion matrix."""

    name: str
    num_samples: int
    num_predicted: int
    num_hits: int

    @property
    def recall(self) -> float:
        return self.num_hits / self.num_samples if self.num_samples else math.nan


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
class Facts:
    """The files of a run, as far as they are there."""

    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    """Flat names to numbers, of the checkpoint that the card is about."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[MetricEntry] = ()
    checklist: Sequence[ChecklistLine] = ()
    plots: Sequence[str] = ()
    """Paths of the plots beside the card, relative to it."""
    repository: str | None = None
    """Where the model can be loaded from on the Hugging Face Hub."""

    def declared(self, key: str) -> str | None:
        return text_at(self.config, "card", key)

    @property
    def missing_keys(self) -> list[str]:
        """What a person has still to write."""
        return [key for key in CARD_KEYS if self.declared(key) is None]

    @property
    def model_name(self) -> str:
        return text_at(self.config, "model", "name") or self.experiment_name or "model"

    @property
    def experiment_name(self) -> str | None:
        return text_at(self.config, "experiment_name")

    @cached_property
    def run(self) -> RunDirectory | None:
        """Where the run lies as its config has it, so that the card is the same wherever it is written.

        None where its readers have no such directory.
        """
        if self.repository is not None:
            return None
        names = [text_at(self.config, key) for key in ("output_dir", "experiment_name", "run_id")]
        if None in names:
            return None
        try:
            return RunDirectory(find_run(*map(str, names)))
        except ConfigError:
            return None

    @property
    def run_path(self) -> str:
        return self.run.path.as_posix() if self.run else "RUN_DIRECTORY"

    @property
    def task(self) -> str | None:
        return text_at(self.provenance, "data", "task")

    @property
    def data_name(self) -> str | None:
        return text_at(self.provenance, "data", "name")

    @property
    def is_transformers_model(self) -> bool:
        return text_at(self.provenance, "model", "library") == "transformers"

    @property
    def nondeterministic_operations(self) -> list[str] | None:
        """Operations that warned that they have no deterministic implementation; None where that is not recorded."""
        if at(self.provenance, "determinism", "nondeterministic_operations") is None:
            return None
        return [str(name) for name in list_at(self.provenance, "determinism", "nondeterministic_operations")]

    @cached_property
    def split(self) -> str | None:
        """The split that the figures are of; None where their names do not say."""
        named = text_at(self.results, "split")
        splits = {name.partition("/")[0] for name in self.metrics if "/" in name}
        return named or next((split for split in ("test", "val", "train") if split in splits), None)

    @cached_property
    def scores(self) -> dict[str, float]:
        """The figures of the split, by bare name."""
        if self.split is None:
            return dict(self.metrics)
        prefix = f"{self.split}/"
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}

    @cached_property
    def headline(self) -> str | None:
        """Bare name of the metric that a reader asks for first."""
        compared = [name for scores in self.baselines.values() for name in scores]
        ordered = ["accuracy", *compared, *(name for name in self.scores if name != "loss"), "loss"]
        return next((name for name in ordered if name in self.scores), None)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Metrics of simple methods by bare name."""
        return {name: numbers(scores) for name, scores in mapping_at(self.results, "baselines").items()}

    @cached_property
    def confusion_matrix(self) -> ConfusionMatrix | None:
        for details in mapping_at(self.results, "details").values():
            counts = [row for row in list_at(details, "confusion_matrix", "counts") if isinstance(row, list | tuple)]
            labels = [str(label) for label in list_at(details, "confusion_matrix", "labels")]
            are_counts = all(type(cell) is int and cell >= 0 for row in counts for cell in row)
            if counts and are_counts and all(len(row) == len(labels) == len(counts) for row in counts):
                return ConfusionMatrix(labels, counts)
        return None

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
        if matrix and matrix.num_samples and "accuracy" in self.scores:
            accuracy = matrix.num_hits / matrix.num_samples
            if math.isclose(accuracy, self.scores["accuracy"], abs_tol=1e-6):
                found["accuracy"] = wilson_interval(matrix.num_hits, matrix.num_samples)
        return found

    def plot(self, name: str) -> str | None:
        """Return the path of the plot that is called so, None if there is none."""
        return next((path for path in self.plots if path.rpartition("/")[2] == f"{name}.svg"), None)

    @property
    def evaluations(self) -> list[MetricEntry]:
        """The entries of the history that hold figures of the validation split."""
        return [entry for entry in self.history if any(name.startswith("val/") for name in entry.metrics)]
