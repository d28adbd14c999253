"""What the checks look at: the files of a run, each read once; of checkpoints only what is needed, they are large."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from reprise.config import ExperimentConfig
from reprise.errors import CheckFailed, CheckpointError
from reprise.files.content_hash import content_hash
from reprise.files.json_file import read_object
from reprise.files.json_values import as_number, mapping_at, mappings_at
from reprise.randomness import first_seed
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.metrics_log import MetricEntry, last_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.text.listing import first_few


@dataclass(frozen=True)
class Checkpoint:
    name: str
    epoch: int
    step: int
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    best: Mapping[str, Any]
    """The best evaluation so far: value, epoch and step, and by which metric."""
    chosen_from: int
    """Evaluations up to this step are no candidates for the best."""
    origin: int
    """The step from which epochs are counted."""
    settings: Sequence[Mapping[str, Any]]
    """Of the optimizer, by parameter group."""
    seed: int
    """Where torch's random generator was put last."""
    weights_sha256: str
    entries: frozenset[str]
    """sha256 of the content of each entry of the weights."""
    has_complex: bool
    """Whether one of them is of complex numbers."""


class RunFiles:
    """Every property raises `CheckFailed` or an `InputError` if its file cannot be read."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    @cached_property
    def config(self) -> ExperimentConfig:
        return ExperimentConfig.load(self.run.config)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        return read_object(self.run.provenance)

    @cached_property
    def results(self) -> Mapping[str, Any]:
        return read_object(self.run.metrics)

    @cached_property
    def last_line(self) -> MetricEntry:
        """The last line of the metrics."""
        last = last_metrics(self.run.metrics_log)
        if last is None:
            raise CheckFailed("`logs/metrics.jsonl` holds no metrics.")
        return last

    @cached_property
    def attempts(self) -> list[Mapping[str, Any]]:
        return mappings_at(read_object(self.run.status), "attempts")

    @property
    def changes(self) -> list[Mapping[str, Any]]:
        """The recorded changes of the config, of all attempts."""
        return [change for attempt in self.attempts for change in mappings_at(attempt, "changes")]

    @cached_property
    def best(self) -> Checkpoint:
        return _read(self.run.best_checkpoint)

    @cached_property
    def last(self) -> Checkpoint:
        return _read(self.run.last_checkpoint)

    @cached_property
    def whole(self) -> list[Checkpoint]:
        """The checkpoints that can be read, the last one first."""
        found = []
        for name in ("last", "best"):
            try:
                found.append(getattr(self, name))
            except CheckFailed:
                continue
        if not found:
            raise CheckFailed("There is no whole checkpoint to hold it against.")
        return found

    def num_samples(self, split: str) -> int:
        number = as_number(mapping_at(self.provenance, "data", "splits", split).get("num_samples"))
        if not number:
            raise CheckFailed(f"`provenance.json` does not hold the size of the split `{split}`.")
        return int(number)


def _read(path: Path) -> Checkpoint:
    try:
        state = read_checkpoint(path)
        weights = state["model_state_dict"]
        return Checkpoint(
            path.name,
            state["epoch"],
            state["step"],
            state["metrics"],
            state["config"],
            state["loop_state"]["best"] or {},
            state["loop_state"].get("chosen_from", 0),  # older ones have neither
            state["loop_state"].get("origin", 0),
            mappings_at(state["optimizer_state_dict"], "param_groups"),
            first_seed(state["torch_rng_state"]),
            content_hash(weights),
            frozenset(map(content_hash, weights.values())),
            any(isinstance(value, Tensor) and value.is_complex() for value in weights.values()),
        )
    except FileNotFoundError:
        raise CheckFailed(f"There is no `checkpoints/{path.name}`.") from None
    except CheckpointError:
        raise CheckFailed(f"`checkpoints/{path.name}` is damaged, or is no checkpoint.") from None
    except KeyError as error:
        raise CheckFailed(f"`checkpoints/{path.name}` does not hold {error}.") from None


def as_code(value: Any) -> str:
    """Return a plain value as code."""
    return f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


def named(names: Sequence[str]) -> str:
    """Return the first few names."""
    return first_few(f"`{name}`" for name in names)
