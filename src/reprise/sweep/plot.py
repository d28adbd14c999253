"""Draws a sweep: a dot for each job, and the mean of each setting with its interval."""

import math
from collections.abc import Sequence
from html import escape

from reprise.model_card.figures import figure, is_rate, percent
from reprise.sweep.summary import GROUPED_OVER, Setting, Summary

_MOST_SETTINGS = 30
_ROW, _TOP, _WIDTH, _DIGIT = 26, 52, 520, 7.0  # pixels: a row, above the rows, across the values, a character


def plot(summary: Summary) -> str:
    """Return the plot as SVG; of many settings the best only, which it says."""
    metric = summary.metric
    settings = [setting for setting in summary.settings if metric is not None and setting.values(metric)]
    shown = settings[:_MOST_SETTINGS]
    if metric is None or not shown:
        return _svg(240, 40, ['<text x="12" y="24">no job has come to a figure</text>'])
    labels = [_label(setting, summary) for setting in shown]
    left = 24 + _DIGIT * max(map(len, labels))
    bottom = _TOP + _ROW * len(shown)
    bounds = [value for setting in shown for value in _extent(setting, metric)]
    ticks = _ticks(min(bounds), max(bounds))
    low, high = min(ticks[0], *bounds), max(ticks[-1], *bounds)

    def x(value: float) -> float:
        return left + _WIDTH * (value - low) / (high - low)

    title = metric if len(shown) == len(settings) else f"{metric}, the best {len(shown)} of {len(settings):,} settings"
    parts = [f'<text x="{left:.1f}" y="16" class="title">{escape(title)}</text>']
    for tick in ticks:
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP - 8}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{_TOP - 13}" class="tick">{_shown(tick, metric, ticks)}</text>')
    for row, (setting, label) in enumerate(zip(shown, labels, strict=True)):
        y = _TOP + _ROW * (row + 0.5)
        parts.append(f'<text x="{left - 12:.1f}" y="{y + 4:.1f}" class="label">{escape(label)}</text>')
        values = setting.interval(metric)
        assert values is not None
        if values.low is not None and values.high is not None:
            ends = f'x1="{x(values.low):.1f}" x2="{x(values.high):.1f}"'
            parts.append(f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" class="interval"/>')
        for value in setting.values(metric):
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="3.5" class="job"/>')
        mean = f'x1="{x(values.mean):.1f}" x2="{x(values.mean):.1f}"'
        parts.append(f'<line {mean} y1="{y - 8:.1f}" y2="{y + 8:.1f}" class="mean"/>')
    parts.append(
        f'<text x="{left:.1f}" y="{bottom + 18}" class="note">dot: a job; line: mean; bar: 95 % interval</text>'
    )
    return _svg(left + _WIDTH + 28, bottom + 30, parts)


def _label(setting: Setting, summary: Summary) -> str:
    keys = [key for key in summary.keys if key not in GROUPED_OVER and key in setting.overrides]
    return ", ".join(f"{key.rpartition('.')[2]}={setting.overrides[key]}" for key in keys) or "all jobs"


def _extent(setting: Setting, metric: str) -> list[float]:
    values = setting.interval(metric)
    return setting.values(metric) + [b for b in (values.low, values.high) if b is not None] if values else []


def _ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers that reach from about `low` to about `high`."""
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 7)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _shown(tick: float, metric: str, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if is_rate(metric.rpartition("/")[2]):
        return percent(tick, max(0, -math.floor(math.log10(100 * step) + 1e-9)))
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if 1e-4 <= step < 1e7 else figure(tick)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    style = (
        "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.tick{text-anchor:middle;fill:#57606a}"
        ".label{text-anchor:end}.note{fill:#57606a;font-size:11px}.grid{stroke:#d8dee4}.mean{stroke:#0a3069;"
        "stroke-width:2.5}.interval{stroke:#54aeff;stroke-width:8;stroke-opacity:.45}.job{fill:#0969da;fill-opacity:.65}"
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    content = "\n".join([f"<style>{style}</style>", background, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{content}\n</svg>\n'
