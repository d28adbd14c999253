"""What a report shows, as plain values: each thing once, however many runs share it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reprise.errors import InputError
from reprise.files.json_values import list_at, mapping_at, mappings_at, text_at
from reprise.runs.metrics_log import read_metrics
from reprise.text.numbers import is_rate
from reprise.tools.compare.comparison import Comparison, Variant
from reprise.tools.compare.runs import RunRecord
from reprise.tools.compare.tables import totals
from reprise.tools.report.curves import curves
from reprise.tools.variants import ABSENT

_MOST_LABELS = 50  # of a confusion matrix that is shown


def contents(comparison: Comparison, title: str, warnings: Sequence[str]) -> dict[str, Any]:
    """Return the data of the page; with the same files it is the same.

    A run whose metrics or card cannot be read is shown without them, under one more of the warnings.
    """
    warnings = list(warnings)
    runs = [run for variant in comparison.variants for run in variant.runs]
    common = _common(runs)
    lines: dict[str, int] = {}
    shown_runs = [
        {
            **_run(run, variant, common),
            "curves": _curves(run, len(runs), warnings),
            "card": _card(run, lines, warnings),
        }
        for variant in comparison.variants
        for run in variant.runs
    ]
    names = sorted({name for run in shown_runs for name in run["curves"]})
    return {
        "title": title,
        "summary": _summary(comparison),
        "warnings": warnings,
        "metric": comparison.metric,
        "mode": comparison.mode,
        "metrics": comparison.metrics,
        "rates": [name for name in {*comparison.metrics, *names} if is_rate(name)],
        "keys": comparison.keys,
        "common": common,
        "variants": [_variant(variant, comparison) for variant in comparison.variants],
        "curves": names,
        "shown_curves": _first_shown(names, runs),
        "runs": shown_runs,
        "lines": list(lines),
    }


def _summary(comparison: Comparison) -> str:
    text = f"{totals(comparison)}."
    if comparison.metric is None:
        return f"{text} No run has come to its figures yet."
    return f"{text} The best has the {'lowest' if comparison.mode == 'min' else 'highest'} {comparison.metric}."


def _common(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return the config values that all runs have."""
    common = dict(runs[0].flat_config)
    for run in runs:
        for key in [k for k, v in common.items() if repr(run.flat_config.get(k, ABSENT)) != repr(v)]:
            del common[key]
    return common


def _variant(variant: Variant, comparison: Comparison) -> dict[str, Any]:
    return {
        "label": variant.label,
        "n": len(variant.counted),
        "config": {key: value for key in comparison.keys if (value := variant.value(key)) is not ABSENT},
        "metrics": {name: summary[:2] for name in comparison.metrics if (summary := variant.summary(name)) is not None},
    }


def _run(run: RunRecord, variant: Variant, common: Mapping[str, Any]) -> dict[str, Any]:
    why = variant.why_not_counted(run)
    return {
        "id": run.run_id,
        "path": str(run.path),
        "variant": variant.label,
        "status": run.state,
        "why": why,
        "is_counted": why is None,
        "seed": run.repetition.seed,
        "fold": run.repetition.fold,
        "started": run.started,
        "seconds": _seconds(run),
        "config": {key: value for key, value in run.flat_config.items() if key not in common},
        "metrics": run.metrics,
        "matrices": list(_matrices(run)),
    }


def _seconds(run: RunRecord) -> float | None:
    """Return how long the attempts took together, None if that is not recorded of each."""
    total = 0.0
    for attempt in mappings_at(run.status, "attempts"):
        try:
            started, ended = (datetime.fromisoformat(text_at(attempt, key) or "") for key in ("started", "ended"))
            total += (ended - started).total_seconds()
        except (ValueError, TypeError):
            return None
    return total


def _matrices(run: RunRecord) -> list[dict[str, Any]]:
    matrices = []
    for details in mapping_at(run.results, "details").values():
        labels = [str(label) for label in list_at(details, "confusion_matrix", "labels")]
        rows = [row for row in list_at(details, "confusion_matrix", "counts") if isinstance(row, list)]
        counts = [[cell for cell in row if isinstance(cell, int)] for row in rows]
        if labels and all(len(row) == len(labels) == len(counts) for row in counts):
            is_shown = len(labels) <= _MOST_LABELS
            matrices.append({"labels": labels, "counts": counts} if is_shown else {"num_labels": len(labels)})
    return matrices


def _curves(run: RunRecord, num_runs: int, warnings: list[str]) -> dict[str, Any]:
    try:
        return dict(curves(read_metrics(run.directory.metrics_log), num_runs))
    except (InputError, OSError) as error:
        warnings.append(f"{run.path} has no curves: {error}")
        return {}


def _card(run: RunRecord, lines: dict[str, int], warnings: list[str]) -> list[int] | None:
    """Return the card as places in `lines`, which grow: cards of alike runs share most of theirs."""
    try:
        text = run.directory.model_card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        warnings.append(f"{run.path} has no card: {error}")
        return None
    return [lines.setdefault(line, len(lines)) for line in text.rstrip("\n").split("\n")]


def _first_shown(names: Sequence[str], runs: Sequence[RunRecord]) -> list[str]:
    """Return the metrics drawn at first: what most runs are chosen by, and a rate beside it."""
    monitors = [text_at(run.config, "training", "monitor") or "" for run in runs]
    monitor = max(set(monitors), key=monitors.count)
    rates = [name for name in names if name.startswith("val/") and is_rate(name)]
    return [name for name in dict.fromkeys([monitor, *rates[:1], *names]) if name in names][:2]
