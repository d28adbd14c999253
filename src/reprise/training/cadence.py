"""What is due after an optimizer step: the end of an epoch, an evaluation, or anything that comes every n steps.

Pure arithmetic on the number of optimizer steps done, so that whoever reads a run's files comes to the same answer as
the loop that wrote them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cadence:
    """The length of a run and its epochs in optimizer steps, and how often it evaluates.

    `origin`: the step from which epochs are counted. It is 0, unless steps had another size before.
    """

    steps_per_epoch: int
    total_steps: int
    eval_every_steps: int | None = None
    origin: int = 0

    def epoch_of(self, step: int) -> int:
        """Return the epoch, from 1, of the last of `step` steps."""
        return max(0, step - self.origin - 1) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        return (step - self.origin) % self.steps_per_epoch == 0

    def evaluates(self, step: int) -> bool:
        """Return whether an evaluation follows `step` wherever the run ends; one follows its last step in any case."""
        return self.ends_epoch(step) or is_every(self.eval_every_steps, step)


def is_every(period: int | None, count: int) -> bool:
    """Return whether something that is due every `period` steps or epochs is due after `count`; None is never."""
    return period is not None and count % period == 0


def num_steps_per_epoch(num_batches: int, gradient_accumulation: int) -> int:
    """Return the optimizer steps of one epoch; the last one may have fewer batches than the others."""
    return -(-num_batches // gradient_accumulation)


def num_total_steps(steps_per_epoch: int, max_epochs: int, max_steps: int | None, origin: int = 0) -> int:
    """Return the optimizer steps of the whole run."""
    total = origin + steps_per_epoch * max_epochs
    return total if max_steps is None else min(total, max_steps)
