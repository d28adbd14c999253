"""Writes a comparison down as tables and sentences of plain text; and as rows of full numbers, for programs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reprise.text.numbers import count, figure, is_rate
from reprise.text.tables import Block, TableBlock
from reprise.tools.compare.comparison import Comparison, Pair, Variant
from reprise.tools.compare.runs import Repetition, RunRecord
from reprise.tools.statistics import MeanInterval
from reprise.tools.variants import ABSENT

Row = dict[str, Any]
_NOTHING = "–"
_MOST_LINES = 20


def document(comparison: Comparison, pair: Pair | None, *, lists_runs: bool) -> list[Block]:
    """Return everything that is said about a set of runs."""
    blocks: list[Block] = [_summary(comparison), _variants(comparison)]
    if pair is not None:
        blocks += _pair(pair, comparison)
    if lists_runs:
        blocks.append(_runs(comparison))
    return [*blocks, *_not_counted(comparison, lists_runs=lists_runs)]


def variant_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each variant: its config where it differs, and each metric's mean, spread and number."""
    rows = []
    for variant in comparison.variants:
        row: Row = {"variant": variant.label, **_config(variant, comparison), "n": len(variant.counted)}
        for metric in comparison.metrics:
            row |= _columns(metric, variant.summary(metric))
        rows.append(row)
    return rows


def pair_rows(pair: Pair, comparison: Comparison) -> list[Row]:
    """Return a row for each metric: second minus first, over the seeds that both variants have."""
    return [
        {"metric": metric, "first": pair.first.label, "second": pair.second.label, **_columns("", difference)}
        for metric in comparison.metrics
        if (difference := pair.difference(metric)) is not None
    ]


def run_rows(comparison: Comparison) -> list[Row]:
    """Return a row for each run, also for those that do not count."""
    return [
        {
            "variant": variant.label,
            "run": str(run.path),
            "status": run.state,
            "counted": "yes" if variant.why_not_counted(run) is None else "no",
            "seed": run.repetition.seed,
            **({"data.fold": run.repetition.fold} if _has_folds(comparison) else {}),
            **_config(variant, comparison),
            **{metric: run.metrics.get(metric) for metric in comparison.metrics},
        }
        for variant in comparison.variants
        for run in sorted(variant.runs, key=_by_repetition)
    ]


def config_text(value: Any) -> str:
    """Return a config value as text: as in YAML, without quotes."""
    if value is ABSENT:
        return _NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def spread(summary: MeanInterval | None, metric: str, *, num_expected: int | None = None) -> str:
    """Return mean ± deviation; percentages for rates; with n where it is not `num_expected`."""
    if summary is None:
        return _NOTHING
    scale, unit = _scale(metric, summary.mean)
    mean, std = summary.mean * scale, None if summary.std is None else summary.std * scale
    if std is None:
        text = f"{mean:.2f}" if unit else figure(mean)
    else:
        text = " ± ".join(_alike(mean, std, num_decimals=2 if unit else None))
    return text + unit + ("" if num_expected in (None, summary.num) else f" (n = {summary.num})")


def single_figures(values: Mapping[str, float], metrics: Iterable[str]) -> list[str]:
    """Return each of these metrics of one run, as `spread` gives that of several."""
    return [
        spread(MeanInterval(values[name], None, 1, None, None), name) if name in values else _NOTHING
        for name in metrics
    ]


def totals(comparison: Comparison) -> str:
    """Return how many runs and variants there are, without a full stop."""
    num_runs = sum(len(variant.runs) for variant in comparison.variants)
    num_counted = sum(len(variant.counted) for variant in comparison.variants)
    variants = count(len(comparison.variants), "variant")
    return f"{count(num_runs, 'run')}, {num_counted:,} counted, in {variants}"


def _summary(comparison: Comparison) -> str:
    text = f"{totals(comparison)}; runs of one differ in the seed."
    if comparison.metric is None:
        return f"{text} No run has come to its figures yet."
    best = "lowest" if comparison.mode == "min" else "highest"
    return f"{text} Sorted by {comparison.metric}, {best} first. ± is the standard deviation over seeds (n − 1)."


def _variants(comparison: Comparison) -> TableBlock:
    rows = []
    for variant in comparison.variants:
        num = len(variant.counted)
        figures = [spread(variant.summary(metric), metric, num_expected=num) for metric in comparison.metrics]
        rows.append(
            [variant.label, *(config_text(variant.value(key)) for key in comparison.keys), f"{num:,}", *figures]
        )
    alignment = "l" * (1 + len(comparison.keys)) + "r" * (1 + len(comparison.metrics))
    return TableBlock("", ["variant", *comparison.keys, "n", *comparison.metrics], rows, alignment)


def _pair(pair: Pair, comparison: Comparison) -> list[Block]:
    first, second = pair.first.label, pair.second.label
    title, seeds = f"{second} − {first}", pair.repetitions
    if not seeds:
        return [f"{title}: no paired comparison, since no seed is complete in both."]
    rows = []
    for metric in comparison.metrics:
        difference = pair.difference(metric)
        if difference is not None:
            rows.append([metric, *_difference(difference, metric, pair), f"{difference.num:,}"])
    table = TableBlock(
        f"{title}, paired over {count(len(seeds), 'common seed')} ({_listed([str(seed) for seed in seeds])})",
        ["metric", title, "95 % interval", "n"],
        rows,
        "lrrr",
    )
    if len(seeds) > 1:
        return [table]
    return [table, "n < 2: one pair of runs has no interval, and shows no difference between the variants."]


def _difference(difference: MeanInterval, metric: str, pair: Pair) -> tuple[str, str]:
    means = [summary.mean for variant in (pair.first, pair.second) if (summary := variant.summary(metric))]
    scale, _ = _scale(metric, *means)
    unit = " points" if scale != 1 else ""
    mean = difference.mean * scale
    if difference.low is None or difference.high is None:
        return _with_minus(f"{mean:+.2f}" if unit else f"{mean:+.4g}") + unit, "none"
    low, high = difference.low * scale, difference.high * scale
    texts = _alike(mean, low, high, num_decimals=2 if unit else None, sign="+")
    return f"{texts[0]}{unit}", f"{texts[1]} to {texts[2]}"


def _runs(comparison: Comparison) -> TableBlock:
    folds = ["data.fold"] if _has_folds(comparison) else []
    rows = [
        [
            variant.label,
            config_text(run.repetition.seed),
            *(config_text(run.repetition.fold) for _ in folds),
            str(run.path),
            *single_figures(run.metrics, comparison.metrics),
        ]
        for variant in comparison.variants
        for run in sorted(variant.runs, key=_by_repetition)
    ]
    alignment = "lr" + "r" * len(folds) + "l" + "r" * len(comparison.metrics)
    return TableBlock("Runs", ["variant", "seed", *folds, "run", *comparison.metrics], rows, alignment)


def _not_counted(comparison: Comparison, *, lists_runs: bool) -> list[Block]:
    rows = []
    for variant in comparison.variants:
        for run in variant.runs:
            if (why := variant.why_not_counted(run)) is not None:
                rows.append([str(run.path), variant.label, config_text(run.repetition.seed), why])
    if not rows:
        return []
    left = 0 if lists_runs else max(0, len(rows) - _MOST_LINES)
    blocks: list[Block] = [
        TableBlock("Not counted", ["run", "variant", "seed", "why"], rows[: len(rows) - left], "llrl")
    ]
    return [*blocks, f"And {left:,} more, which --runs lists."] if left else blocks


def _config(variant: Variant, comparison: Comparison) -> Row:
    values = {key: variant.value(key) for key in comparison.keys}
    return {key: None if value is ABSENT else config_text(value) for key, value in values.items()}


def _columns(metric: str, summary: MeanInterval | None) -> Row:
    prefix = f"{metric} " if metric else ""
    mean, std, num, low, high = summary or (None, None, 0, None, None)
    return {
        f"{prefix}mean": mean,
        f"{prefix}std": std,
        f"{prefix}n": num,
        f"{prefix}low": low,
        f"{prefix}high": high,
    }


def _has_folds(comparison: Comparison) -> bool:
    return any(run.repetition.fold is not None for variant in comparison.variants for run in variant.runs)


def _by_repetition(run: RunRecord) -> tuple[str, str, str]:
    def sortable(value: Any) -> str:
        return f"{value:020}" if isinstance(value, int) else str(value)

    repetition: Repetition = run.repetition
    return sortable(repetition.seed), sortable(repetition.fold), run.run_id


def _scale(metric: str, *values: float) -> tuple[float, str]:
    is_percentage = is_rate(metric) and all(0 <= value <= 1 for value in values)
    return (100, " %") if is_percentage else (1, "")


def _alike(*values: float, num_decimals: int | None = None, sign: str = "") -> list[str]:
    """Return numbers with as many decimals as give the largest of them four digits, unless it is told."""
    largest = max(abs(value) for value in values)
    if num_decimals is None:
        if largest and not 1e-4 <= largest < 1e7:
            return [_with_minus(f"{value:{sign}.3g}") for value in values]
        num_decimals = max(0, 3 - math.floor(math.log10(largest))) if largest else 1
    return [_with_minus(f"{value:{sign},.{num_decimals}f}") for value in values]


def _with_minus(number: str) -> str:
    return number.replace("-", "−")


def _listed(items: Sequence[str]) -> str:
    left = len(items) - _MOST_LINES
    return ", ".join(items) if left <= 0 else f"{', '.join(items[:_MOST_LINES])} and {left:,} more"
