"""The section on evaluation: the headline figure, all figures, classes, confusions, history and samples."""

from collections.abc import Sequence

from reprise.files.json_values import list_at, mapping_at, number_at, numbers, text_at
from reprise.runs.metrics_log import MetricEntry
from reprise.text.markdown import code, escape, fenced, image, table
from reprise.text.numbers import count, interval, metric_title, percent, score, wilson_interval
from reprise.tools.model_card.facts import ClassFigures, ConfusionMatrix, Facts

_MOST_MATRIX_CLASSES = 20
_MOST_CLASSES = 50
_HISTORY_ROWS = 12
_INTERVALS_EXPLAINED = (
    "Intervals are Wilson's where a figure is a share of counted samples, and otherwise as the metric computes them "
    "(the metrics of Reprise: percentiles of the bootstrap over samples)."
)


def evaluation_results(facts: Facts) -> str:
    if not facts.metrics:
        return "\n\n".join(["Figures: not recorded.", *_history(facts)])
    blocks = [_headline(facts), _checkpoint(facts), *_baselines(facts), "### All figures", _figures(facts)]
    matrix = facts.confusion_matrix
    if matrix:
        blocks += ["### Classes", _classes(matrix.classes)]
        plot = _plot(facts, "confusion_matrix", "Which classes were taken for which")
        if len(matrix.labels) <= _MOST_MATRIX_CLASSES:
            explained = "Rows are labels, columns are predictions."
            blocks += ["### Confusion matrix", *plot, explained, _confusions(matrix)]
        elif plot:
            blocks += ["### Confusion matrix", *plot]
    reliability = _plot(facts, "reliability", "Accuracy over confidence, with 95 % intervals")
    if reliability:
        blocks += ["### Reliability", *reliability]
    blocks += _history(facts)
    samples = [sample for sample in list_at(facts.results, "samples") if isinstance(sample, str)]
    if samples:
        blocks += ["### Generated samples", *(fenced(sample, "text") for sample in samples)]
    return "\n\n".join(blocks)


def short_headline(facts: Facts) -> str | None:
    """Return the headline figure in a few words."""
    name = facts.headline
    if name is None:
        return None
    where = f" on the {escape(facts.split)} split" if facts.split else ""
    bounds = facts.intervals.get(name)
    between = f" ({interval(name, bounds)})" if bounds else ""
    return f"**{escape(metric_title(name))} {score(name, facts.scores[name])}**{between}{where}"


def _headline(facts: Facts) -> str:
    name = facts.headline
    if name is None:
        return "Headline figure: not recorded."
    details = [f"95 % interval {interval(name, facts.intervals[name])}"] if name in facts.intervals else []
    num_samples = _num_samples(facts)
    if num_samples is not None:
        details.append(count(int(num_samples), "sample"))
    where = f" on the {escape(facts.split)} split" if facts.split else ""
    compared = [
        f"{escape(baseline)} {score(name, scores[name])}"
        for baseline, scores in facts.baselines.items()
        if name in scores
    ]
    against = f"; for comparison: {', '.join(compared)}" if compared else ""
    title = f"**{escape(metric_title(name))} {score(name, facts.scores[name])}**"
    return f"{title}{where}{_in_brackets(details)}{against}."


def _num_samples(facts: Facts) -> float | None:
    if facts.confusion_matrix:
        return facts.confusion_matrix.num_samples
    return number_at(facts.provenance, "data", "splits", facts.split or "", "num_samples")


def _checkpoint(facts: Facts) -> str:
    name = text_at(facts.results, "checkpoint")
    epoch, step = number_at(facts.results, "epoch"), number_at(facts.results, "step")
    if name is None:
        return "Which checkpoint the figures are of: not recorded."
    place = [f"{word} {value:,.0f}" for word, value in (("epoch", epoch), ("step", step)) if value is not None]
    sentence = f"All figures are of the checkpoint {code(name)}{_in_brackets(place)}"
    monitor, value = text_at(facts.results, "monitor", "metric"), number_at(facts.results, "monitor", "value")
    if name != "best" or monitor is None:
        return f"{sentence}."
    extreme = {"min": "lowest", "max": "highest"}.get(text_at(facts.results, "monitor", "mode") or "", "best")
    amount = f" ({score(monitor.rpartition('/')[2], value)})" if value is not None else ""
    return f"{sentence}. It was chosen because {code(monitor)} was {extreme} there{amount}."


def _baselines(facts: Facts) -> list[str]:
    names = list(dict.fromkeys(name for scores in facts.baselines.values() for name in scores))
    if not names:
        return []
    rows = [["**this model**", *(_score(name, facts.scores.get(name)) for name in names)]]
    for baseline, scores in facts.baselines.items():
        rows.append([escape(baseline), *(_score(name, scores.get(name)) for name in names)])
    return [table(["Method", *(escape(metric_title(name)) for name in names)], rows, "l" + "r" * len(names))]


def _figures(facts: Facts) -> str:
    values = {**numbers(mapping_at(facts.results, "validation_metrics")), **facts.metrics}
    by_split: dict[str, dict[str, float]] = {split: {} for split in ("train", "val", "test")}
    for flat_name, value in values.items():
        split, _, name = flat_name.rpartition("/")
        by_split.setdefault(split, {})[name] = value
    by_split = {split: scores for split, scores in by_split.items() if scores}
    names = list(dict.fromkeys(name for scores in reversed(by_split.values()) for name in scores))
    header = ["Metric", *(code(split) if split else "Value" for split in by_split)]
    rows = [
        [escape(metric_title(name)), *(_score(name, scores.get(name)) for scores in by_split.values())]
        for name in names
    ]
    if not facts.intervals:
        return table(header, rows, "l" + "r" * len(by_split))
    for name, row in zip(names, rows, strict=True):
        row.append(interval(name, facts.intervals[name]) if name in facts.intervals else "—")
    of_split = f", {code(facts.split)}" if facts.split else ""
    figures = table([*header, f"95 % interval{of_split}"], rows, "l" + "r" * (len(by_split) + 1))
    return f"{figures}\n\n{_INTERVALS_EXPLAINED}"


def _classes(classes: list[ClassFigures]) -> str:
    shown, note = classes, ""
    if len(classes) > _MOST_CLASSES:
        shown = sorted((c for c in classes if c.num_samples), key=lambda c: c.recall)[:_MOST_CLASSES]
        note = f"The {len(shown)} of {len(classes):,} classes with the lowest recall.\n\n"
    rows = [
        [
            code(c.name),
            f"{c.num_samples:,}",
            *_share(c.num_hits, c.num_predicted),
            *_share(c.num_hits, c.num_samples),
        ]
        for c in shown
    ]
    return note + table(["Class", "n", "Precision", "95 % interval", "Recall", "95 % interval"], rows, "lrrrrr")


def _share(hits: int, trials: int) -> tuple[str, str]:
    if not trials:
        return "—", "—"
    return percent(hits / trials, num_decimals=1), interval("recall", wilson_interval(hits, trials))


def _confusions(matrix: ConfusionMatrix) -> str:
    def cell(value: int, is_hit: bool) -> str:
        return "·" if not value else f"**{value:,}**" if is_hit else f"{value:,}"

    rows = [
        [code(label), *(cell(value, row_index == column) for column, value in enumerate(row))]
        for row_index, (label, row) in enumerate(zip(matrix.labels, matrix.counts, strict=True))
    ]
    return table(["", *(code(label) for label in matrix.labels)], rows, "l" + "r" * len(matrix.labels))


def _history(facts: Facts) -> list[str]:
    entries = facts.evaluations
    if not entries:
        return ["### Learning history", "Not recorded."]
    best = _best_index(facts, entries)
    monitor = text_at(facts.results, "monitor", "metric") or text_at(facts.config, "training", "monitor")
    candidates = dict.fromkeys(["train/loss", "val/loss", f"val/{facts.headline}", monitor or ""])
    names = [name for name in candidates if any(name in entry.metrics for entry in entries)]
    rows = []
    for index in _thinned(len(entries), best):
        entry = entries[index]
        cells = [_score(name.rpartition("/")[2], entry.metrics.get(name)) for name in names]
        rows.append([f"{entry.epoch:,}", f"{entry.step:,}", *cells, "best" if index == best else ""])
    left_out = f" {len(rows)} of {len(entries):,} evaluations are shown." if len(rows) < len(entries) else ""
    return [
        "### Learning history",
        *_plot(facts, "learning_curves", "Losses and the monitored metric over optimizer steps"),
        "The training loss is the mean over the steps since the evaluation before, in training mode and with the "
        f"weights still changing.{left_out}",
        table(["Epoch", "Step", *(code(name) for name in names), ""], rows, "rr" + "r" * len(names)),
    ]


def _plot(facts: Facts, name: str, description: str) -> list[str]:
    path = facts.plot(name)
    return [] if path is None else [image(description, path)]


def _best_index(facts: Facts, entries: Sequence[MetricEntry]) -> int | None:
    """Return the evaluation that the best checkpoint was taken at."""
    if text_at(facts.results, "checkpoint") == "best":
        steps = [entry.step for entry in entries]
        step = number_at(facts.results, "step")
        return steps.index(int(step)) if step is not None and step in steps else None
    monitor = text_at(facts.config, "training", "monitor")
    sign = -1 if text_at(facts.config, "training", "monitor_mode") == "max" else 1
    if monitor is None:
        return None
    values = [(sign * entry.metrics[monitor], i) for i, entry in enumerate(entries) if monitor in entry.metrics]
    return min(values)[1] if values else None


def _thinned(length: int, best: int | None) -> list[int]:
    """Return at most `_HISTORY_ROWS` positions, evenly spaced, with the first, the best and the last among them."""
    if length <= _HISTORY_ROWS:
        return list(range(length))
    last_row = _HISTORY_ROWS - 2
    even = {round(row * (length - 1) / last_row) for row in range(last_row + 1)}
    return sorted(even | ({best} if best is not None else set()))


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _score(name: str, value: float | None) -> str:
    return "—" if value is None else score(name, value)
