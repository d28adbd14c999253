"""What all pictures are made of: shapes, texts, axes, and colours for light and dark pages.

A picture has a background of its own, so that it can be read wherever it is put.
"""

import math
from collections.abc import Sequence
from html import escape

from reprise.text.numbers import figure, is_rate, percent

DIGIT = 7.0
"""Width of a character of the usual size, in pixels, on average."""

# Selector, property, value on a light page, value on a dark page.
_COLOURS = (
    (".back", "fill", "#fff", "#0d1117"),
    ("text", "fill", "#24292f", "#e6edf3"),
    (".faint", "fill", "#57606a", "#9da7b3"),
    (".grid", "stroke", "#d8dee4", "#30363d"),
    (".axis", "stroke", "#8c959f", "#6e7681"),
    (".first", "stroke", "#0969da", "#58a6ff"),
    (".second", "stroke", "#bc4c00", "#f0883e"),
    (".third", "stroke", "#1a7f37", "#3fb950"),
    (".fourth", "stroke", "#8250df", "#bc8cff"),
    (".first-fill", "fill", "#0969da", "#58a6ff"),
    (".second-fill", "fill", "#bc4c00", "#f0883e"),
    (".third-fill", "fill", "#1a7f37", "#3fb950"),
    (".fourth-fill", "fill", "#8250df", "#bc8cff"),
    (".hit", "fill", "#0969da", "#1f6feb"),
    (".miss", "fill", "#bc4c00", "#d9681c"),
    (".on", "fill", "#fff", "#fff"),
)
_SHAPES = (
    "text{font:12px system-ui,sans-serif}.title{font-weight:600}.small{font-size:11px}.middle{text-anchor:middle}"
    ".end{text-anchor:end}.curve{fill:none;stroke-width:2;stroke-linejoin:round}.mark{stroke-dasharray:4 3}"
    ".interval{stroke-opacity:.4}"
)
SERIES = ("first", "second", "third", "fourth")
"""Classes of lines that can be told apart; with `-fill` behind them, those of areas and texts."""


def document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return a whole picture; `title` is read out where it cannot be seen."""
    light = "".join(f"{selector}{{{name}:{value}}}" for selector, name, value, _ in _COLOURS)
    dark = "".join(f"{selector}{{{name}:{value}}}" for selector, name, _, value in _COLOURS)
    style = f"<style>{_SHAPES}{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    content = "\n".join(
        [f"<title>{plain(title)}</title>", style, '<rect width="100%" height="100%" class="back"/>', *parts]
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n{content}\n</svg>\n'


def plain(text: str) -> str:
    """Return `text` as it can stand in a picture: without markup, and without what XML cannot hold."""
    return escape("".join(c for c in text if c.isprintable()), quote=True)


def text(x: float, y: float, content: str, kind: str = "", transform: str = "") -> str:
    turned = f' transform="{transform}"' if transform else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{_class(kind)}{turned}>{plain(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{_class(kind)} stroke-width="{width:g}"/>'


def circle(x: float, y: float, radius: float, kind: str, opacity: float = 1.0) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{_class(kind)}{_opacity(opacity)}/>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, opacity: float = 1.0, hint: str = "") -> str:
    """Return a filled rectangle; `hint` shows where the pointer rests on it."""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{_class(kind)}{_opacity(opacity)}'
    return f"{shape}><title>{plain(hint)}</title></rect>" if hint else f"{shape}/>"


def curve(points: Sequence[tuple[float, float]], kind: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}"{_class(f"curve {kind}")}/>'


def shortened(label: str, most: int = 24) -> str:
    """Return a label of at most `most` characters."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


def ticks(low: float, high: float) -> list[float]:
    """Return three to nine round numbers that reach from about `low` to about `high`."""
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # all the same, up to rounding
        span = abs(high) or 1.0
        low, high = low - span / 4, high + span / 4
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 7)
    return [step * number for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def tick_label(tick: float, metric: str, all_ticks: Sequence[float]) -> str:
    """Return a value of a metric as it stands at an axis with these ticks."""
    step = all_ticks[1] - all_ticks[0]
    if is_rate(metric):
        return percent(tick, max(0, -math.floor(math.log10(100 * step) + 1e-9)))
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if 1e-4 <= step < 1e7 else figure(tick)


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _opacity(opacity: float) -> str:
    return f' opacity="{opacity:.2f}"' if opacity < 1 else ""
