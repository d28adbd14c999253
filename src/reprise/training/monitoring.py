"""Which evaluation is the best so far, by the metric that a run monitors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reprise.errors import Failure, InputError, NonFiniteError


@dataclass(frozen=True)
class Best:
    """The evaluation with the best value of the monitored metric so far; of equals, the first."""

    value: float
    epoch: int
    step: int


def is_better(value: float, best: Best | None, mode: Literal["min", "max"]) -> bool:
    if best is None:
        return True
    return value < best.value if mode == "min" else value > best.value


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
