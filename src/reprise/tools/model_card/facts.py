"""What a card is written from: the files of a run, and what follows from them. A missing fact is None, or empty.

Templates see these objects, so they hold plain values only: nothing that can read, write or call anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reprise.errors import ConfigError
from reprise.files.json_values import at, flattened, list_at, mapping_at, mappings_at, number_at, text_at
from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import find_run
from reprise.tools.model_card.figures import doubtful_figures
from reprise.tools.model_card.hub import LICENSES
from reprise.tools.model_card.scores import Scores

if TYPE_CHECKING:
    from reprise.tools.checklist import Check  # which imports torch

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
_PACKAGES = ("reprise", "torch", "transformers", "numpy", "hydra-core")
# Config sections that the card shows elsewhere, or that do not affect the weights.
_NOT_SETTINGS = {
    *("card", "callbacks", "tracker", "metrics", "experiment_name", "run_id", "output_dir", "trusted_packages")
}
_MOST_EVALUATIONS = 12


@dataclass(frozen=True)
class Split:
    name: str
    num_samples: float | None
    sha256: str | None


@dataclass(frozen=True)
class CardFacts:
    """The files of a run as far as they are there, and what a card says about them."""

    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    """Flat names to numbers, of the checkpoint that the card is about."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[MetricEntry] = ()
    checklist: Sequence[Check] = ()
    plot_paths: Sequence[str] = ()
    """Paths of the plots beside the card, relative to it."""
    repository: str | None = None
    """Where the model can be loaded from on the Hugging Face Hub."""

    @cached_property
    def card(self) -> dict[str, str | None]:
        """What a person wrote under `card` in the config."""
        return {key: text_at(self.config, "card", key) for key in CARD_KEYS}

    @property
    def missing_keys(self) -> list[str]:
        """What a person has still to write."""
        return [key for key, text in self.card.items() if text is None]

    @property
    def hub_license(self) -> str | None:
        """The declared licence as the Hugging Face Hub spells it; None if it has none such."""
        spelled = (self.card["license"] or "").strip().lower()
        return spelled if spelled in LICENSES else None

    @property
    def experiment_name(self) -> str | None:
        return text_at(self.config, "experiment_name")

    @property
    def model_name(self) -> str:
        return text_at(self.config, "model", "name") or self.experiment_name or "model"

    @property
    def data_name(self) -> str | None:
        return text_at(self.provenance, "data", "name")

    @property
    def task(self) -> str | None:
        return text_at(self.provenance, "data", "task")

    @cached_property
    def run_path(self) -> str | None:
        """The run directory as its config has it, so that the card is the same wherever it is written.

        None where its readers have no such directory.
        """
        names = [text_at(self.config, key) for key in ("output_dir", "experiment_name", "run_id")]
        if self.repository is not None or None in names:
            return None
        try:
            return find_run(*map(str, names)).as_posix()
        except ConfigError:
            return None

    @property
    def code_patch_path(self) -> str | None:
        """The patch that has to be applied to the recorded commit; None if there is none, or nobody has it."""
        code = mapping_at(self.provenance, "code")
        # What was changed need not be code; then there is no patch.
        is_patched = code.get("dirty") is True and ("patch_sha256" not in code or code["patch_sha256"] is not None)
        return f"{self.run_path}/code.patch" if self.run_path and is_patched else None

    @cached_property
    def not_stated(self) -> dict[str, str]:
        """Figures that differ between files of the run, and how: a metric, `monitor` or `epoch`."""
        return doubtful_figures(self.config, self.results, self.history)

    @cached_property
    def scores(self) -> Scores:
        return Scores(self.metrics, self.results, tuple(self.not_stated))

    @property
    def num_evaluated(self) -> float | None:
        """How many samples the figures are of."""
        if self.scores.confusion_matrix:
            return self.scores.confusion_matrix.num_samples
        return number_at(self.provenance, "data", "splits", self.scores.split or "", "num_samples")

    @cached_property
    def plots(self) -> dict[str, str]:
        """Paths of the plots by name, such as `learning_curves`."""
        return {path.rpartition("/")[2].removesuffix(".svg"): path for path in self.plot_paths}

    @property
    def input_shapes(self) -> dict[str, list[Any]]:
        """Sizes of what the model reads, by name and without the batch."""
        shapes = mapping_at(self.provenance, "model", "input_shapes")
        return {name: sizes for name in shapes if (sizes := list_at(shapes, name))}

    @property
    def logits_shape(self) -> list[Any]:
        return list_at(self.provenance, "model", "logits_shape")

    @property
    def parameters(self) -> str | None:
        total = number_at(self.provenance, "model", "num_parameters")
        trained = number_at(self.provenance, "model", "num_trained_parameters")
        if total is None:
            return None
        return f"{total:,.0f}" + (f", of which {trained:,.0f} were trained" if trained not in (None, total) else "")

    @property
    def labels(self) -> list[Any]:
        return list_at(self.provenance, "data", "labels")

    @property
    def caveats(self) -> list[Any]:
        """What is known against the data."""
        return list_at(self.provenance, "data", "caveats")

    @cached_property
    def splits(self) -> list[Split]:
        splits = mapping_at(self.provenance, "data", "splits")
        return [Split(name, number_at(splits, name, "num_samples"), text_at(splits, name, "sha256")) for name in splits]

    @property
    def num_samples(self) -> float:
        """Samples of all splits."""
        return sum(split.num_samples or 0 for split in self.splits)

    @property
    def settings(self) -> dict[str, str]:
        """The config by dotted key as text: training first, without what is null or does not affect the weights."""
        values = flattened({key: value for key, value in self.config.items() if key not in _NOT_SETTINGS})
        keys = sorted(values, key=lambda key: not key.startswith("training."))
        return {key: _text(values[key]) for key in keys if values[key] is not None}

    @property
    def samples(self) -> list[str]:
        """Texts that the model wrote."""
        return [sample for sample in list_at(self.results, "samples") if isinstance(sample, str)]

    @property
    def packages(self) -> dict[str, Any]:
        """Versions of the main packages."""
        versions = mapping_at(self.provenance, "environment", "packages")
        return {name: versions[name] for name in _PACKAGES if versions.get(name) is not None}

    @property
    def gpus(self) -> list[Mapping[str, Any]]:
        return mappings_at(self.provenance, "hardware", "gpus")

    @property
    def determinism(self) -> dict[str, str]:
        """Settings that determinism depends on, as JSON."""
        settings = mapping_at(self.provenance, "determinism") or {
            key: at(self.config, key) for key in ("deterministic", "num_threads")
        }
        return {
            key: json.dumps(value, default=str)
            for key, value in settings.items()
            if value is not None and key != "nondeterministic_operations"
        }

    @property
    def nondeterministic_operations(self) -> list[str] | None:
        """Operations that warned that they have no deterministic implementation; None where that is not recorded."""
        if at(self.provenance, "determinism", "nondeterministic_operations") is None:
            return None
        return [str(name) for name in list_at(self.provenance, "determinism", "nondeterministic_operations")]

    @property
    def attempts(self) -> list[Mapping[str, Any]]:
        return mappings_at(self.status, "attempts")

    @property
    def monitor(self) -> str | None:
        return text_at(self.results, "monitor", "metric") or text_at(self.config, "training", "monitor")

    @property
    def evaluations(self) -> list[MetricEntry]:
        """The entries of the history that hold figures of the validation split."""
        return [entry for entry in self.history if any(name.startswith("val/") for name in entry.metrics)]

    @property
    def curve_names(self) -> list[str]:
        """The metrics that the learning history shows."""
        candidates = dict.fromkeys(["train/loss", "val/loss", f"val/{self.scores.headline}", self.monitor or ""])
        return [name for name in candidates if any(name in entry.metrics for entry in self.evaluations)]

    @cached_property
    def best_evaluation(self) -> MetricEntry | None:
        """The evaluation that the best checkpoint was taken at."""
        entries = self.evaluations
        if text_at(self.results, "checkpoint") == "best":
            return next((e for e in entries if e.step == number_at(self.results, "step")), None)
        monitor = text_at(self.config, "training", "monitor") or ""
        candidates = [entry for entry in entries if monitor in entry.metrics]
        choose = max if text_at(self.config, "training", "monitor_mode") == "max" else min
        return choose(candidates, key=lambda entry: entry.metrics[monitor]) if candidates else None

    @property
    def some_evaluations(self) -> list[MetricEntry]:
        """Evaluations, evenly spaced where there are many: with the first, the best and the last among them."""
        entries = self.evaluations
        if len(entries) <= _MOST_EVALUATIONS:
            return entries
        last_row = _MOST_EVALUATIONS - 2
        kept = {round(row * (len(entries) - 1) / last_row) for row in range(last_row + 1)}
        return [entry for i, entry in enumerate(entries) if i in kept or entry is self.best_evaluation]


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
