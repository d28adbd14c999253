"""Saves the best, the last and periodic checkpoints, each independent of the others."""

from pathlib import Path

from reprise.callbacks import Callback, Run
from reprise.checkpoint import save_checkpoint
from reprise.config import PositiveInt


class Checkpoints(Callback):
    """Writes `best.pt` when the monitored metric improves, `last.pt` at each epoch's end and `every_steps` optimizer
    steps, and `epoch_NNN.pt` every `every_epochs` epochs.
    """

    def __init__(self, every_epochs: PositiveInt | None = None, every_steps: PositiveInt | None = None) -> None:
        self._every_epochs = every_epochs
        self._every_steps = every_steps

    def on_commit(self, run: Run) -> None:
        # last.pt comes last: where it stands, a resumed run carries on, and what was due before must be there.
        for path in self._due(run):
            loop = run.loop
            save_checkpoint(
                loop.model,
                loop.optimizer,
                loop.scheduler,
                loop.epoch,
                loop.step,
                loop.metrics,
                run.config,
                path,
                extra={
                    "loop_state": loop.state_dict(),
                    "callback_states": {name: run.callbacks[name].state_dict() for name in sorted(run.callbacks)},
                },
            )

    def _due(self, run: Run) -> list[Path]:
        loop, directory = run.loop, run.directory
        epoch_ends = loop.step % loop.steps_per_epoch == 0
        due = []
        if loop.best is not None and loop.best.step == loop.step:
            due.append(directory.best_checkpoint)
        if epoch_ends and self._every_epochs is not None and loop.epoch % self._every_epochs == 0:
            due.append(directory.epoch_checkpoint(loop.epoch))
        steps_due = self._every_steps is not None and loop.step % self._every_steps == 0
        if epoch_ends or steps_due or loop.finished or loop.interruption is not None:
            due.append(directory.last_checkpoint)
        return due
