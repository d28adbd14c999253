"""Compares the variants among a set of runs: the figures of each over seeds, the better ones first."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from reprise.errors import InputError
from reprise.files.json_values import text_at
from reprise.text.numbers import is_higher_better
from reprise.text.suggestions import instead
from reprise.tools.compare.runs import Repetition, RunRecord
from reprise.tools.statistics import MeanInterval, mean_interval, paired_difference
from reprise.tools.variants import ABSENT, PLACE_KEYS, PRODUCT_KEYS, REPETITION_KEYS, differing_keys, group_variants

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Variant:
    """Runs with one config, apart from the seed."""

    label: str
    """A, B, C … in the order of the comparison."""
    runs: tuple[RunRecord, ...]

    @cached_property
    def counted(self) -> dict[Repetition, RunRecord]:
        """The run that counts for each seed: the one that was started last, of those that are complete."""
        complete = [run for run in self.runs if run.why_not_counted is None]
        return {run.repetition: run for run in sorted(complete, key=lambda run: (run.started, run.run_id))}

    def why_not_counted(self, run: RunRecord) -> str | None:
        """Return why one of the runs has no part in any mean; None if it has."""
        if run.why_not_counted is not None or run is (later := self.counted[run.repetition]):
            return run.why_not_counted
        return f"a later run has the same seed: {later.run_id}"

    def value(self, key: str) -> Any:
        return self.runs[0].flat_config.get(key, ABSENT)

    def values(self, metric: str) -> dict[Repetition, float]:
        """Return the metric by seed."""
        return {seed: run.metrics[metric] for seed, run in self.counted.items() if metric in run.metrics}

    def summary(self, metric: str) -> MeanInterval | None:
        """Return mean and deviation over seeds, None if no run has the metric."""
        values = self.values(metric)
        return mean_interval(list(values.values())) if values else None


@dataclass(frozen=True)
class Pair:
    """Two variants over the seeds that both have."""

    first: Variant
    second: Variant

    @property
    def repetitions(self) -> list[Repetition]:
        return [repetition for repetition in self.first.counted if repetition in self.second.counted]

    def difference(self, metric: str) -> MeanInterval | None:
        """Return second minus first, seed by seed; None if no seed has the metric in both."""
        first, second = self.first.values(metric), self.second.values(metric)
        common = [seed for seed in first if seed in second]
        return paired_difference([first[s] for s in common], [second[s] for s in common]) if common else None


@dataclass(frozen=True)
class Comparison:
    """Variants of a set of runs, the best first."""

    variants: tuple[Variant, ...]
    keys: tuple[str, ...]
    """Dotted config keys that are not the same in all variants."""
    metrics: tuple[str, ...]
    """All metrics that a counted run has; the one that decides the order comes first."""
    metric: str | None
    mode: Mode
    """Whether the lowest or the highest comes first."""

    def pair(self, first: str, second: str) -> Pair:
        """Return the pair of two variants, by their labels.

        Raises:
            InputError: if there is no variant of such a label, or it is twice the same.
        """
        by_label = {variant.label: variant for variant in self.variants}
        for label in (first, second):
            if label not in by_label:
                last = self.variants[-1].label
                raise InputError(f"--pair: there is no variant {label!r}; the labels here are A to {last}")
        if first == second:
            raise InputError(f"--pair: expected two variants, got {first!r} twice")
        return Pair(by_label[first], by_label[second])


def compare_variants(runs: Sequence[RunRecord], metric: str | None = None, mode: Mode | None = None) -> Comparison:
    """Return the variants among `runs`, sorted by the mean of a metric.

    `metric`: a flat name, or its bare name if only one ends so; without it, the twin of `training.monitor` in the
    figures that runs end with. `mode`: `min` if lower is better; without it, what is known of the metric.

    Raises:
        InputError: if no run has the metric, or the better direction is not known.
    """
    ignored = REPETITION_KEYS + PLACE_KEYS + PRODUCT_KEYS
    keys = differing_keys([run.flat_config for run in runs], ignored)
    variants = [Variant("", tuple(group)) for _, group in group_variants(runs, lambda run: run.flat_config, keys)]
    counted = [run for variant in variants for run in variant.counted.values()]
    metrics = list(dict.fromkeys(name for run in counted for name in run.metrics))
    monitor, monitor_mode = _monitor(counted)
    name = _metric_named(metric, metrics) if metric is not None else _twin(monitor, metrics)
    mode = mode or _direction(name, monitor, monitor_mode, is_asked_for=metric is not None)

    def rank(variant: Variant) -> tuple[float, float]:
        mean = summary.mean if name is not None and (summary := variant.summary(name)) else math.inf
        return (mean if mode == "min" or mean == math.inf else -mean, -len(variant.counted))

    ranked = sorted(variants, key=rank)
    labelled = (Variant(label, variant.runs) for label, variant in zip(_labels(), ranked, strict=False))
    metrics.sort(key=lambda other: other != name)  # a stable sort: the others stay in their order
    return Comparison(tuple(labelled), tuple(keys), tuple(metrics), name, mode)


def _monitor(runs: Sequence[RunRecord]) -> tuple[str, Mode | None]:
    """Return what most runs choose their best checkpoint by."""
    monitors = Counter(
        (text_at(run.config, "training", "monitor"), text_at(run.config, "training", "monitor_mode")) for run in runs
    )
    for (monitor, mode), _ in monitors.most_common(1):
        return monitor or "", "min" if mode == "min" else "max" if mode == "max" else None
    return "", None


def _twin(monitor: str, metrics: Sequence[str]) -> str | None:
    twins = sorted(_ending(monitor, metrics), key=lambda name: not name.startswith("test/"))
    return next(iter([*twins, *metrics]), None)


def _metric_named(name: str, metrics: Sequence[str]) -> str:
    if name in metrics:
        return name
    endings = _ending(name, metrics) if "/" not in name else []
    if len(endings) == 1:
        return endings[0]
    if endings:
        raise InputError(f"--metric: {name!r} may be any of {', '.join(endings)}")
    raise InputError(f"--metric: no run that is complete has {name!r}; {instead(name, metrics)}")


def _ending(name: str, metrics: Sequence[str]) -> list[str]:
    return [metric for metric in metrics if metric.rpartition("/")[2] == name.rpartition("/")[2]]


def _direction(name: str | None, monitor: str, monitor_mode: Mode | None, *, is_asked_for: bool) -> Mode:
    bare = (name or "").rpartition("/")[2]
    if monitor_mode is not None and bare == monitor.rpartition("/")[2]:
        return monitor_mode
    is_better = is_higher_better(bare)
    if is_better is None and is_asked_for:
        raise InputError(f"--metric: whether a high or a low {name!r} is better is not known; add --mode max or min")
    return "min" if is_better is False else "max"


def _labels() -> Iterator[str]:
    """Yield A, B, …, Z, AA, AB, …"""
    number = 0
    while True:
        number, label, rest = number + 1, "", number
        while rest >= 0:
            rest, letter = divmod(rest, 26)
            label, rest = chr(ord("A") + letter) + label, rest - 1
        yield label
