"""Numbers for people: four digits, percentages for rates, intervals, durations and sizes."""

import math
import re

_RATE = re.compile(r"(^|_)(accuracy|f1|precision|recall|sensitivity|specificity|auroc|auc|iou)(_|$)")
_LOWER_IS_BETTER = re.compile(r"(^|_)(loss|perplexity|bits|error|mse|mae|rmse|wer|cer)(_|$)")
_NAMES = {"f1": "F1", "iou": "IoU"} | {
    name: name.upper() for name in ("auroc", "auc", "mse", "mae", "rmse", "wer", "cer")
}

Interval = tuple[float, float]


def is_rate(name: str) -> bool:
    """Return whether the metric `name`, with or without its split, is a fraction of 1."""
    return _RATE.search(name.rpartition("/")[2]) is not None


def is_higher_better(name: str) -> bool | None:
    """Return the direction of the metric `name`, with or without its split; None if it is not known."""
    return False if _LOWER_IS_BETTER.search(name.rpartition("/")[2]) else True if is_rate(name) else None


def wilson_interval(hits: int, trials: int) -> Interval:
    """Return the 95 % score interval of a rate (Wilson 1927): 356 of 360 is 97.2 to 99.6 %."""
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    rate, shrinkage = hits / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrinkage
    margin = z / shrinkage * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def metric_title(name: str) -> str:
    """Return the bare name of a metric in words."""
    words = " ".join(_NAMES.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def score(name: str, value: float) -> str:
    """Return the value of the metric `name`: a percentage for rates."""
    return percent(value) if is_rate(name) and 0 <= value <= 1 else figure(value)


def figure(value: float) -> str:
    """Return a number with four significant digits; integers and thousands whole."""
    if not math.isfinite(value):
        return "not finite"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def percent(fraction: float, num_decimals: int = 2) -> str:
    return f"{100 * fraction:.{num_decimals}f} %"


def interval(name: str, bounds: Interval) -> str:
    low, high = bounds
    if is_rate(name):
        return f"{100 * low:.1f}–{100 * high:.1f} %"
    return f"{figure(low)}–{figure(high)}"


def binary_size(num_bytes: float) -> str:
    if num_bytes < 2**20:
        return f"{num_bytes / 2**10:.4g} KiB"
    return f"{num_bytes / 2**20:.4g} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:.4g} GiB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return "1 thing" or "3 things"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
