"""Learning curves of a run, each of so many points that the page can hold those of all runs."""

from collections.abc import Iterable

from reprise.files.json_values import number_at
from reprise.runs.metrics_log import MetricEntry
from reprise.tools.plots.thinning import Curve, thinned


def curves(history: Iterable[MetricEntry], num_runs: int) -> dict[str, Curve]:
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


def points_per_curve(num_runs: int, num_metrics: int) -> int:
    """Return how many points each curve may have for a page of many runs to stay of a size that a browser opens."""
    return max(20, min(300, _POINTS_OF_A_PAGE // max(1, num_runs * num_metrics)))


_POINTS_OF_A_PAGE = 1_000_000  # about 15 MB
