"""Which evaluation is the best so far, by the metric that a run monitors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reprise.errors import NonFiniteError


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


def unknown_monitor(monitor: str, computed: Iterable[str], step: int, num_skipped: int) -> Exception:
    """Return the error for a monitored metric that an evaluation has not computed."""
    if num_skipped:
        return NonFiniteError(f"{monitor} is not known at step {step}: all steps before it were skipped")
    return LookupError(f"training.monitor: nothing computed {monitor!r}, but {', '.join(computed)}")
