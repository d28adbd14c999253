"""Draws how a run went: the losses, and beside them the metric that chose the best checkpoint, or the headline."""

from collections.abc import Sequence
from typing import Protocol

from reprise.text.numbers import score
from reprise.tools.plots.svg import SERIES, circle, curve, document, line, text, tick_label, ticks
from reprise.tools.plots.thinning import thinned

_WIDTH, _HEIGHT = 340, 200  # pixels, of the area between the axes
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 56, 52
_MOST_POINTS = 400
_DOTTED_UP_TO = 40


class Evaluation(Protocol):
    @property
    def step(self) -> int: ...

    @property
    def metrics(self) -> dict[str, float]: ...


def draw_learning_curves(evaluations: Sequence[Evaluation], monitor: str, best_step: int | None) -> str | None:
    """Return the curves over optimizer steps as SVG, None if nothing was evaluated.

    `best_step`: of the best checkpoint, which is marked.
    """
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics))
    losses = [name for name in ("train/loss", "val/loss") if name in names]
    others = [name for name in (monitor, "val/accuracy", *names) if name.startswith("val/") and name in names]
    others = [name for name in others if name not in losses]
    panels = [panel for panel in (losses, others[:1]) if panel]
    if not panels:
        return None
    best = next((e for e in evaluations if e.step == best_step), None)
    parts = []
    for number, panel in enumerate(panels):
        parts += _panel(evaluations, panel, best, number * (_LEFT + _WIDTH + _RIGHT))
    width = len(panels) * (_LEFT + _WIDTH + _RIGHT)
    return document(width, _TOP + _HEIGHT + _BOTTOM, f"Learning curves: {', '.join(losses + others[:1])}", parts)


def _panel(evaluations: Sequence[Evaluation], names: Sequence[str], best: Evaluation | None, x0: float) -> list[str]:
    curves = {}
    for name in names:
        points = [(e.step, e.metrics[name]) for e in evaluations if name in e.metrics]
        curves[name] = thinned(([step for step, _ in points], [value for _, value in points]), _MOST_POINTS)
    values = [value for _, column in curves.values() for value in column]
    marks, steps = ticks(min(values), max(values)), ticks(0, max(e.step for e in evaluations))
    low, high, last = marks[0], marks[-1], steps[-1]

    def x(step: float) -> float:
        return x0 + _LEFT + _WIDTH * step / last

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - value) / (high - low)

    parts = []
    for mark in marks:
        parts.append(line(x(0), y(mark), x(last), y(mark), "grid"))
        parts.append(text(x(0) - 8, y(mark) + 4, tick_label(mark, names[0], marks), "faint small end"))
    parts += [text(x(s), _TOP + _HEIGHT + 18, f"{s:,.0f}", "faint small middle") for s in steps if s == round(s)]
    parts.append(text(x(last / 2), _TOP + _HEIGHT + 38, "optimizer steps", "faint small middle"))
    parts.append(line(x(0), y(low), x(last), y(low), "axis"))
    if best is not None:
        parts.append(line(x(best.step), _TOP, x(best.step), y(low), "axis mark"))
    at = x(0)
    for name, kind in zip(names, SERIES, strict=False):
        places = [(x(step), y(value)) for step, value in zip(*curves[name], strict=True)]
        parts.append(curve(places, kind))
        if len(places) <= _DOTTED_UP_TO:
            parts += [circle(*place, 2.5, f"{kind}-fill") for place in places]
        parts += [line(at, 18, at + 16, 18, kind, 2), text(at + 22, 22, name, "title")]
        at += 40 + 7.5 * len(name)
    if best is not None:
        shown = [f"{name} {score(name, best.metrics[name])}" for name in names if name in best.metrics]
        parts.append(text(x(0), 42, f"best checkpoint, step {best.step:,}: {', '.join(shown)}", "faint small"))
        for name, kind in zip(names, SERIES, strict=False):
            if name in best.metrics:
                parts.append(circle(x(best.step), y(best.metrics[name]), 4.5, f"{kind}-fill"))
    return parts
