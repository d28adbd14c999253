"""What a few equal runs say together: mean, spread, and how far the mean can be trusted.

Plain floats in and out; nothing is imported but Python's own library.
"""

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_CONFIDENCE = 0.95


class MeanInterval(NamedTuple):
    """The mean of `num` values with their spread; what one value alone cannot tell is None."""

    mean: float
    std: float | None
    """Standard deviation of one value, estimated with n - 1."""
    num: int
    low: float | None
    """Lower end of the 95 % interval of the mean (Student's t), so for values that are normally distributed."""
    high: float | None


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Return mean, standard deviation, number and 95 % interval of finite values.

    Mean and variance are exact before they are rounded, so the order of the values changes no bit, and equal values
    have a deviation of 0.

    Raises:
        ValueError: if there is no value, or one is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"expected finite numbers, at least one, got {list(values)!r}")
    mean, num = float(statistics.mean(values)), len(values)
    if num == 1:
        return MeanInterval(mean, None, num, None, None)
    std = float(statistics.stdev(values))
    margin = student_quantile(num - 1) * std / math.sqrt(num)
    return MeanInterval(mean, std, num, mean - margin, mean + margin)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> MeanInterval:
    """Return `mean_interval` of the differences `second` - `first`, value by value.

    What both values of a pair share, such as what a seed does to the data split, cancels out; so the interval is often
    much narrower than those of the two means.

    Raises:
        ValueError: if there is no pair, the lengths differ, or a value is not finite.
    """
    return mean_interval([b - a for a, b in zip(first, second, strict=True)])


@functools.lru_cache
def student_quantile(degrees_of_freedom: int) -> float:
    """Return the t that a variable of Student's distribution exceeds with a probability of 2.5 %.

    `degrees_of_freedom`: an integer ≥ 1; with one, t is 12.7. Source of the sum for P(|T| < t) at whole degrees of
    freedom: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:  # until there is no float between the two
        if _central_probability(angle, degrees_of_freedom) < _CONFIDENCE:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees_of_freedom) * math.tan(high)


def _central_probability(angle: float, degrees_of_freedom: int) -> float:
    """Return P(|T| < t) for t = tan(angle) · √degrees_of_freedom."""
    is_odd = degrees_of_freedom % 2
    cosine, term = math.cos(angle), 1.0
    if is_odd:
        term = cosine if degrees_of_freedom > 1 else 0.0
    total = term
    for k in range(2 + is_odd, degrees_of_freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if is_odd else math.sin(angle) * total
