"""Thins learning curves to what a screen can show, keeping every extreme."""

from collections.abc import Sequence

from reprise.lookup import number_at
from reprise.model_card.files import Entry

Curve = tuple[list[int], list[float]]
"""Optimizer steps, and the value at each."""


def curves(history: Sequence[Entry], num_runs: int) -> dict[str, Curve]:
    """Return each metric of a history as a curve of some of its logged points, for a page of `num_runs` runs."""
    points: dict[str, Curve] = {}
    for entry in history:
        for name in entry.metrics:
            value = number_at(entry.metrics, name)
            if value is not None:
                steps, values = points.setdefault(name, ([], []))
                steps.append(entry.step)
                values.append(float(f"{value:.5g}"))
    most_points = points_per_curve(num_runs, len(points))
    return {name: thinned(curve, most_points) for name, curve in points.items()}


def thinned(curve: Curve, most_points: int) -> Curve:
    """Return at most `most_points` of the points of a curve: the first, the last, and the extremes of equal stretches.

    `most_points`: at least 4. No point is made up, so a spike stays as high as it was logged.
    """
    steps, values = curve
    if len(steps) <= most_points:
        return curve
    num_stretches, last = (most_points - 2) // 2, len(steps) - 1
    kept = {0, last}
    for index in range(num_stretches):
        stretch = range(1 + index * (last - 1) // num_stretches, 1 + (index + 1) * (last - 1) // num_stretches)
        kept |= {min(stretch, key=values.__getitem__), max(stretch, key=values.__getitem__)}
    chosen = sorted(kept)
    return [steps[i] for i in chosen], [values[i] for i in chosen]


def points_per_curve(num_runs: int, num_metrics: int) -> int:
    """Return how many points each curve may have for a page of many runs to stay of a size that a browser opens."""
    return max(20, min(300, _POINTS_OF_A_PAGE // max(1, num_runs * num_metrics)))


_POINTS_OF_A_PAGE = 1_000_000  # about 15 MB
