"""What a sweep came to, computed from the records of its jobs: every job, and the jobs grouped over seeds."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reprise.files.json_file import read_object
from reprise.runs.sweep_directory import PRUNED, SweepDirectory
from reprise.tools.statistics import MeanInterval, mean_interval
from reprise.tools.sweep.job_record import JobRecord
from reprise.tools.variants import PLACE_KEYS, REPETITION_KEYS, differing_keys, group_variants

_ORDER = ("completed", PRUNED, "interrupted", "failed", "running")


@dataclass(frozen=True)
class Job:
    outcome: JobRecord

    @property
    def run_id(self) -> str:
        return str(self.outcome["run_id"])

    @property
    def status(self) -> str:
        """As recorded, but `pruned` for what a search ended early."""
        return PRUNED if str(self.outcome["reason"]).startswith(PRUNED) else str(self.outcome["status"])

    @cached_property
    def overrides(self) -> dict[str, str]:
        """Values as typed, by key."""
        pairs = (line.lstrip("+").partition("=") for line in self.outcome["overrides"])
        return {key: value for key, _, value in pairs if key not in PLACE_KEYS}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The figures that the job came to, the value that its monitor was best at among them."""
        metrics, monitor = self.outcome["metrics"], self.outcome["monitor"]
        if monitor is not None and monitor["value"] is not None:
            metrics = {monitor["metric"]: monitor["value"], **metrics}
        return dict(metrics)


@dataclass(frozen=True)
class JobGroup:
    """The jobs of one setting: what differs among them is the seed."""

    overrides: Mapping[str, str]
    """Of the keys that differ within the sweep; a key that a job was not given is not there."""
    jobs: tuple[Job, ...]

    @property
    def completed(self) -> list[Job]:
        return [job for job in self.jobs if job.status == "completed"]

    def values(self, metric: str) -> list[float]:
        return [job.metrics[metric] for job in self.completed if metric in job.metrics]

    def interval(self, metric: str) -> MeanInterval | None:
        if metric not in self._intervals:
            values = self.values(metric)
            self._intervals[metric] = mean_interval(values) if values else None
        return self._intervals[metric]

    @cached_property
    def _intervals(self) -> dict[str, MeanInterval | None]:
        return {}


@dataclass(frozen=True)
class Summary:
    """Settings and jobs of a sweep, the best first."""

    sweep_id: str
    experiment_name: str
    metric: str | None
    """What the order is by; None if no job has a metric."""
    mode: str
    monitor: str | None
    """The metric on the validation split that chose each job's checkpoint."""
    keys: tuple[str, ...]
    """Those that differ among the jobs, those that are grouped over last."""
    metrics: tuple[str, ...]
    settings: tuple[JobGroup, ...]
    jobs: tuple[Job, ...]
    searched_for: Mapping[str, str]
    """`min` or `max` by metric; empty if the sweep is no search."""

    @property
    def best(self) -> list[Job]:
        """What a search came to: the jobs that no other is better than in one metric and no worse in the others."""
        jobs = [
            job for job in self.jobs if job.status == "completed" and self.searched_for.keys() <= job.metrics.keys()
        ]
        costs = {
            job.run_id: [job.metrics[name] * (1 if mode == "min" else -1) for name, mode in self.searched_for.items()]
            for job in jobs
        }
        return [job for job in jobs if not any(_dominates(other, costs[job.run_id]) for other in costs.values())]

    @property
    def num_jobs(self) -> dict[str, int]:
        """By status."""
        return dict(Counter(job.status for job in self.jobs))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "sweep_id": self.sweep_id,
            "experiment_name": self.experiment_name,
            "ordered_by": {"metric": self.metric, "mode": self.mode},
            "grouped_over": list(REPETITION_KEYS),
            "num_jobs": self.num_jobs,
            **({"searched_for": dict(self.searched_for)} if self.searched_for else {}),
            **({"best": [job.run_id for job in self.best]} if self.searched_for else {}),
            "groups": [
                {
                    "overrides": dict(setting.overrides),
                    "runs": [job.run_id for job in setting.jobs],
                    "metrics": {
                        name: interval._asdict() for name in self.metrics if (interval := setting.interval(name))
                    },
                }
                for setting in self.settings
            ],
            "jobs": [{key: value for key, value in job.outcome.items() if key != "ended"} for job in self.jobs],
        }


def summarize(directory: SweepDirectory) -> Summary:
    """Return what the records of a sweep come to."""
    jobs = [Job(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(directory.records.glob("[!.]*.json"))]
    searched_for = read_object(directory.definition).get("search", {}).get("metrics", {})
    metric, mode, monitor = _order(jobs)
    if searched_for:
        metric, mode = next(iter(searched_for.items()))
        monitor = metric
    # What is written about a run makes variants here: every job counts, also two with one seed.
    keys = differing_keys([job.overrides for job in jobs], PLACE_KEYS)
    groups = group_variants(jobs, lambda job: job.overrides, keys)

    def rank(values: Sequence[float]) -> float:
        mean = mean_interval(values).mean if values else math.inf
        return mean if mode == "min" or not values else -mean

    def job_rank(job: Job) -> tuple[Any, ...]:
        return (
            _ORDER.index(job.status),
            rank([job.metrics[metric]] if metric in job.metrics else []),
            _natural(job.overrides, keys),
        )

    settings = [JobGroup(chosen, tuple(sorted(group, key=job_rank))) for chosen, group in groups]
    settings.sort(key=lambda setting: (rank(setting.values(metric or "")), _natural(setting.overrides, keys)))
    names = dict.fromkeys(name for job in jobs for name in job.metrics)
    return Summary(
        directory.sweep_id,
        directory.experiment_name,
        metric,
        mode,
        monitor,
        tuple(keys),
        tuple(sorted(names, key=lambda name: (name != metric, not name.startswith("test/"), name != monitor))),
        tuple(settings),
        tuple(sorted(jobs, key=job_rank)),
        searched_for,
    )


def _dominates(costs: Sequence[float], others: Sequence[float]) -> bool:
    return costs != others and all(cost <= other for cost, other in zip(costs, others, strict=True))


def _order(jobs: Sequence[Job]) -> tuple[str | None, str, str | None]:
    """Return the metric that orders a sweep, its better direction, and the monitor it belongs to."""
    chosen_by = [job.outcome["monitor"] for job in jobs if job.outcome["monitor"] is not None]
    monitors = Counter((monitor["metric"], monitor["mode"]) for monitor in chosen_by)
    for (monitor, mode), _ in monitors.most_common(1):
        twin = f"test/{monitor.rpartition('/')[2]}"
        return twin if any(twin in job.metrics for job in jobs) else monitor, mode, monitor
    return None, "min", None


def _natural(overrides: Mapping[str, str], keys: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Return what sorts overrides by their values, numbers by size."""
    values = [overrides.get(key, "") for key in keys]
    return [(number is None, number or 0.0, value) for value in values for number in [_number(value)]]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
