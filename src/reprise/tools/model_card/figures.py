"""Holds figures that stand in more than one file of a run against each other: one that differs is not stated."""

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.files.json_values import at, mapping_at, number_at, numbers, text_at
from reprise.runs.metrics_log import MetricEntry

RESULTS, LOG = "results/metrics.json", "logs/metrics.jsonl"

MONITOR = "monitor"
EPOCH = "epoch"


def doubtful_figures(
    config: Mapping[str, Any], results: Mapping[str, Any], history: Sequence[MetricEntry]
) -> dict[str, str]:
    """Return what is wrong with figures of `results`, by metric, or under `MONITOR` and `EPOCH`.

    Nothing is held against a `history` without the evaluation that the results are about.
    """
    step = number_at(results, "step")
    line = next((entry for entry in history if entry.step == step), None)
    if line is None:
        return {}
    found = {}
    if (epoch := number_at(results, "epoch")) is not None and epoch != line.epoch:
        found[EPOCH] = f"{RESULTS} says {epoch:g}, and {LOG} {line.epoch} for step {line.step}"
    for name, value in numbers(mapping_at(results, "validation_metrics")).items():
        if name in line.metrics and line.metrics[name] != value:
            found[name] = f"{RESULTS} says {value:.6g}, and {LOG} {line.metrics[name]:.6g} at step {line.step}"
    if text_at(results, "checkpoint") == "best" and (wrong := _wrong_choice(config, results, history, line)):
        found[MONITOR] = wrong
    return found


def _wrong_choice(
    config: Mapping[str, Any], results: Mapping[str, Any], history: Sequence[MetricEntry], line: MetricEntry
) -> str | None:
    metric, mode, value = (
        text_at(results, "monitor", "metric"),
        text_at(results, "monitor", "mode"),
        number_at(results, "monitor", "value"),
    )
    if metric is None or value is None:
        return None
    configured = at(config, "training", "monitor"), at(config, "training", "monitor_mode")
    if None not in configured and configured != (metric, mode):
        return f"{RESULTS} says {metric}, {mode}, and the config {configured[0]}, {configured[1]}"
    there = line.metrics.get(metric)
    if there is None:
        return f"{LOG} has no {metric} at step {line.step}"
    if there != value:
        return f"{RESULTS} says that {metric} was {value:.6g}, and {LOG} {there:.6g} at step {line.step}"
    after = number_at(results, "monitor", "after_step") or 0
    others = [entry for entry in history if metric in entry.metrics and entry.step > after]
    best = (max if mode == "max" else min)(others, key=lambda entry: entry.metrics[metric], default=line)
    if best.metrics[metric] != value:
        return f"{metric} was better at step {best.step} by {LOG}: {best.metrics[metric]:.6g}"
    return None
