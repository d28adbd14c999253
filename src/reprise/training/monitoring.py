"""Which evaluation is the best so far, by the metric that a run monitors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reprise.errors import Failure, InputError, NonFiniteError

Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Best:
    """The evaluation with the best value of the monitored metric so far; of equals, the first."""

    value: float
    epoch: int
    step: int
    metric: str
    mode: Mode


def best_of(best: Best | None, value: float, monitor: str, mode: Mode, epoch: int, step: int) -> Best:
    """Return the better one of `best` and an evaluation with this value of the monitored metric."""
    if best is not None and (value >= best.value if mode == "min" else value <= best.value):
        return best
    return Best(value, epoch, step, monitor, mode)


def unknown_monitor(
    monitor: str, computed: Iterable[str], step: int, num_skipped: int, skips_nonfinite: bool
) -> Exception:
    """Return the error for a monitored metric that an evaluation has not computed."""
    computed, split = list(computed), monitor.partition("/")[0]
    if split == "train" and num_skipped:
        message = f"{monitor} is not known at step {step}: all steps before it were skipped"
        return NonFiniteError(message) if skips_nonfinite else Failure(f"{message}, since none had an item to train on")
    if not any(name.startswith(f"{split}/") for name in computed):
        return no_items(split, monitor)
    return LookupError(f"training.monitor: nothing computed {monitor!r}, but {', '.join(computed)}")


def no_items(split: str, monitor: str) -> InputError:
    """Return the error for a monitored metric of a split in which there is nothing to score."""
    return InputError(
        f"training.monitor: {monitor!r} cannot be computed: the split {split!r} has no item to score. By default items "
        "are the labels that are not masked with -100; where they are something else, Data.count_items counts them"
    )
