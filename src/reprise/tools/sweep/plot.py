"""Draws a sweep: a dot for each job, and the mean of each setting with its interval."""

from reprise.tools.plots.svg import DIGIT, circle, document, line, text, tick_label, ticks
from reprise.tools.sweep.summary import JobGroup, Summary
from reprise.tools.variants import REPETITION_KEYS

_MOST_SETTINGS = 30
_ROW, _TOP, _WIDTH = 26, 52, 520  # pixels: a row, above the rows, across the values


def plot(summary: Summary) -> str:
    """Return the plot as SVG; of many settings the best only, which it says."""
    metric = summary.metric
    settings = [setting for setting in summary.settings if metric is not None and setting.values(metric)]
    shown = settings[:_MOST_SETTINGS]
    if metric is None or not shown:
        return document(240, 40, "no figures", [text(12, 24, "no job has come to a figure")])
    labels = [_label(setting, summary) for setting in shown]
    left = 24 + DIGIT * max(map(len, labels))
    bottom = _TOP + _ROW * len(shown)
    bounds = [value for setting in shown for value in _extent(setting, metric)]
    marks = ticks(min(bounds), max(bounds))
    low, high = min(marks[0], *bounds), max(marks[-1], *bounds)

    def x(value: float) -> float:
        return left + _WIDTH * (value - low) / (high - low)

    title = metric if len(shown) == len(settings) else f"{metric}, the best {len(shown)} of {len(settings):,} settings"
    parts = [text(left, 16, title, "title")]
    for mark in marks:
        parts.append(line(x(mark), _TOP - 8, x(mark), bottom, "grid"))
        parts.append(text(x(mark), _TOP - 13, tick_label(mark, metric, marks), "faint middle"))
    for row, (setting, label) in enumerate(zip(shown, labels, strict=True)):
        y = _TOP + _ROW * (row + 0.5)
        parts.append(text(left - 12, y + 4, label, "end"))
        values = setting.interval(metric)
        assert values is not None
        if values.low is not None and values.high is not None:
            parts.append(line(x(values.low), y, x(values.high), y, "first interval", 8))
        parts += [circle(x(value), y, 3.5, "first-fill", 0.65) for value in setting.values(metric)]
        parts.append(line(x(values.mean), y - 8, x(values.mean), y + 8, "second", 2.5))
    parts.append(text(left, bottom + 18, "dot: a job; line: mean; bar: 95 % interval", "faint small"))
    return document(left + _WIDTH + 28, bottom + 30, title, parts)


def _label(setting: JobGroup, summary: Summary) -> str:
    keys = [key for key in summary.keys if key not in REPETITION_KEYS and key in setting.overrides]
    return ", ".join(f"{key.rpartition('.')[2]}={setting.overrides[key]}" for key in keys) or "all jobs"


def _extent(setting: JobGroup, metric: str) -> list[float]:
    values = setting.interval(metric)
    return setting.values(metric) + [b for b in (values.low, values.high) if b is not None] if values else []
