"""What a comparison of two runs found: plain values, from which everything else about it follows."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LineDifference:
    """A line of `metrics.jsonl` that differs, by the first metric in it that does; None where a run has none."""

    step: int
    name: str
    recorded: float | None
    repeated: float | None
    names: tuple[str, ...]
    """All metrics that differ in this line."""


@dataclass(frozen=True)
class TensorDifference:
    """A tensor of the weights that differs; `largest` is None if the two cannot be subtracted."""

    name: str
    largest: float | None
    detail: str = ""


@dataclass(frozen=True)
class CheckpointComparison:
    """The state of both runs after the same step."""

    file: str
    step: int
    num_tensors: int
    tensors: tuple[TensorDifference, ...]
    """Those that differ, the largest difference first."""
    states: tuple[str, ...]
    """Other parts of the state that differ."""

    @property
    def is_equal(self) -> bool:
        return not self.tensors and not self.states


@dataclass(frozen=True)
class Findings:
    """All that was compared, and where it differs."""

    num_lines: int
    lines: tuple[LineDifference, ...]
    equal_up_to: int
    """Step of the last line before the first that differs; 0 if there is none."""
    checkpoints: tuple[CheckpointComparison, ...]
    """In the order of their steps."""
    results: tuple[str, ...]
    """What differs in predictions, results and export, in sentences."""
    compared_results: tuple[str, ...]
    initial_weights_differ: bool
    traced: tuple[int, int | None] = (0, None)
    """Of the steps of which both runs have a checksum of the weights: the last with equal ones, the first without."""

    @property
    def are_equal(self) -> bool:
        return not (self.lines or self.results or self.weights_differ)

    @property
    def first_step(self) -> int | None:
        """Return the first step for which a difference is known: 0 for the initial weights, None for only results."""
        if self.initial_weights_differ:
            return 0
        steps = [line.step for line in self.lines[:1]]
        steps += [checkpoint.step for checkpoint in self.checkpoints if not checkpoint.is_equal]
        steps += [step for step in self.traced[1:] if step is not None]
        return min(steps, default=None)

    @property
    def weights_differ(self) -> bool:
        at_a_step = self.traced[1] is not None or any(not checkpoint.is_equal for checkpoint in self.checkpoints)
        return self.initial_weights_differ or at_a_step

    @property
    def weights_equal_up_to(self) -> int:
        """Return the last step before the first known difference at which the weights are known to be equal."""
        first = self.first_step
        steps = [c.step for c in self.checkpoints if not c.tensors and (first is None or c.step < first)]
        return max([*steps, self.traced[0]])


def value_text(value: Any) -> str:
    """Return a value for a line of text, cut where it is long; a float with all of its bits."""
    if isinstance(value, float):
        return f"{value!r} ({value.hex()})"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
