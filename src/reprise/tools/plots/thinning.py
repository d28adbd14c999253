"""Thins curves to what a screen can show, keeping every extreme."""

Curve = tuple[list[int], list[float]]
"""Optimizer steps, and the value at each."""


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
