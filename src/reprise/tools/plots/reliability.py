"""Draws whether a model is right as often as it is sure."""

from collections.abc import Sequence

from reprise.text.numbers import percent, wilson_interval
from reprise.tools.plots.svg import circle, document, line, rectangle, text

_NUM_BINS = 10
_SIZE, _LEFT, _TOP, _HISTOGRAM = 240, 64, 60, 50  # pixels


def draw_reliability(predictions: Sequence[tuple[float, bool]]) -> str | None:
    """Return accuracy over confidence as SVG, None without predictions: of each the probability, and whether it hit.

    Bins are ten equal ones of the probability; bars are 95 % intervals (Wilson 1927). The expected calibration error is
    the mean distance of confidence and accuracy, weighted by samples (Guo et al. 2017, equation 3).
    """
    if not predictions:
        return None
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_NUM_BINS)]
    for probability, hit in predictions:
        bins[min(int(probability * _NUM_BINS), _NUM_BINS - 1)].append((probability, hit))
    error = sum(abs(sum(p for p, _ in part) - sum(hit for _, hit in part)) for part in bins) / len(predictions)
    floor = _TOP + _SIZE

    def x(value: float) -> float:
        return _LEFT + _SIZE * value

    def y(value: float) -> float:
        return floor - _SIZE * value

    parts = [
        text(16, 22, "Accuracy over confidence", "title"),
        text(16, 42, f"{len(predictions):,} samples, expected calibration error {percent(error, 1)}", "faint small"),
    ]
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(line(x(0), y(mark), x(1), y(mark), "grid"))
        parts.append(line(x(mark), y(0), x(mark), y(1), "grid"))
        parts.append(text(x(0) - 8, y(mark) + 4, percent(mark, 0), "faint small end"))
        parts.append(text(x(mark), floor + _HISTOGRAM + 26, percent(mark, 0), "faint small middle"))
    parts.append(line(x(0), y(0), x(1), y(1), "axis mark"))
    most = max(map(len, bins))
    for number, part in enumerate(bins):
        if not part:
            continue
        height = _HISTOGRAM * len(part) / most
        low = x(number / _NUM_BINS)
        hint = f"{len(part):,} samples"
        parts.append(
            rectangle(low + 1, floor + 10 + _HISTOGRAM - height, _SIZE / _NUM_BINS - 2, height, "first-fill", 0.5, hint)
        )
        num_hits = sum(hit for _, hit in part)
        middle = x(sum(p for p, _ in part) / len(part))
        bounds = wilson_interval(num_hits, len(part))
        parts.append(line(middle, y(bounds[0]), middle, y(bounds[1]), "first", 2))
        parts.append(circle(middle, y(num_hits / len(part)), 4, "first-fill"))
    parts.append(
        text(x(0.5), floor + _HISTOGRAM + 44, "confidence; below the axis, how many samples", "faint small middle")
    )
    return document(_LEFT + _SIZE + 40, floor + _HISTOGRAM + 60, "Accuracy over confidence", parts)
