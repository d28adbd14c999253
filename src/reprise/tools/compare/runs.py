"""Finds runs and reads what a comparison needs of each: small JSON files, never a checkpoint, and no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from reprise.config.names import SWEEPS, name_problem
from reprise.errors import InputError
from reprise.files.differences import compare
from reprise.files.json_file import read_object
from reprise.files.json_values import at, list_at, mapping_at, number_at, numbers, text_at
from reprise.runs.run_directory import RunDirectory, find_run
from reprise.text.suggestions import instead


class Repetition(NamedTuple):
    """What may differ between two runs of one variant; runs of two variants that share it make a pair."""

    seed: int | str | None
    fold: int | str | None

    def __str__(self) -> str:
        return f"{self.seed}" if self.fold is None else f"{self.seed} fold {self.fold}"


@dataclass(frozen=True)
class RunRecord:
    """One run, as far as its JSON files tell."""

    directory: RunDirectory
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    results: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def run_id(self) -> str:
        return self.directory.run_id

    @cached_property
    def flat_config(self) -> dict[str, Any]:
        """Single values by dotted key."""
        return {leaf.key: _json_value(leaf.second) for leaf in compare({}, self.config) if leaf.key}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """What the run came to: finite numbers by flat name, such as `test/loss`."""
        values = mapping_at(self.results, "metrics")
        return {name: value for name in numbers(values) if (value := number_at(values, name)) is not None}

    @property
    def repetition(self) -> Repetition:
        return Repetition(*(_scalar(at(self.config, *key)) for key in (("seed",), ("data", "fold"))))

    @property
    def state(self) -> str:
        return text_at(self.status, "status") or "unknown"

    @property
    def started(self) -> str:
        """When the first attempt began, ISO 8601 in UTC; empty if that is not recorded."""
        return next((text_at(attempt, "started") or "" for attempt in list_at(self.status, "attempts")), "")

    @property
    def why_not_counted(self) -> str | None:
        """Why the run has no part in any mean; None if it has."""
        if self.state != "completed":
            reason = text_at(self.status, "reason")
            return self.state + (f": {reason}" if reason else "")
        return None if self.metrics else f"completed, but without figures in {self.directory.metrics.name}"


class Selection(NamedTuple):
    """The runs that can be read, and a sentence for each of the others."""

    runs: list[RunRecord]
    warnings: list[str]


def read_runs(names: Sequence[str], output_dir: str | Path = "outputs") -> Selection:
    """Return the runs that are meant by run directories, directories of runs, and names of experiments.

    Raises:
        InputError: if there is nothing of such a name, or no run that can be read.
    """
    paths: dict[Path, Path] = {}  # by where they really lie, so that none counts twice
    warnings: list[str] = []
    for name in names:
        for path in _runs_in(_directory(name, output_dir), warnings):
            paths.setdefault(path.resolve(), path)
    runs = []
    for path in paths.values():
        try:
            runs.append(_read(RunDirectory(path)))
        except (InputError, OSError) as error:
            warnings.append(f"{path} is left out: {error}")
    if not runs:
        raise InputError("\n  ".join([f"there is no run to read in: {', '.join(names) or output_dir}", *warnings]))
    return Selection(runs, warnings)


def experiment_names(output_dir: str | Path = "outputs") -> list[str]:
    """Return the experiments below `output_dir`, sorted."""
    above = _experiment_directory(output_dir, "any").parent
    return sorted(path.name for path in above.glob("[!.]*") if path.is_dir())


def _directory(name: str, output_dir: str | Path) -> Path:
    path = Path(name)
    if RunDirectory(path).config.exists():
        return path
    if name_problem(name) is None:
        experiment = _experiment_directory(output_dir, name)
        if experiment.is_dir():
            return experiment
    if path.is_dir():
        return path
    experiments = experiment_names(output_dir)
    advice = instead(name, experiments) if experiments else f"there are no experiments in {output_dir}"
    raise InputError(f"{name}: there is no run directory and no experiment of this name; {advice}")


def _experiment_directory(output_dir: str | Path, name: str) -> Path:
    return find_run(output_dir, name, "any").parent


def _runs_in(directory: Path, warnings: list[str]) -> list[Path]:
    if RunDirectory(directory).config.exists():
        return [directory]
    inside = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    is_run = [RunDirectory(path).config.exists() for path in inside]
    runs = [path for path, found in zip(inside, is_run, strict=True) if found]
    others = [path for path, found in zip(inside, is_run, strict=True) if not found] if runs else [directory]
    warnings += [
        f"{path} is left out: it is not the directory of a run, it has no config.json"
        for path in others
        if path.name != SWEEPS
    ]
    return runs


def _read(directory: RunDirectory) -> RunRecord:
    directory.refuse_links_out()
    config = read_object(directory.config)
    if not config:
        raise InputError(f"{directory.config}: an empty config")
    return RunRecord(directory, config, read_object(directory.status), read_object(directory.metrics))


def _json_value(value: Any) -> Any:
    """Return a value as JSON has it: no run writes a number that is not finite, but a person may."""
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _scalar(value: Any) -> int | str | None:
    return value if value is None or isinstance(value, int | str) else str(value)
