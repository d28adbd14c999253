"""Saves the best, the last and periodic checkpoints, each independent of the others."""

import contextlib
from pathlib import Path
from typing import Any

from reprise.atomic_file import keep
from reprise.callbacks import Callback, Run
from reprise.checkpoint import save_checkpoint
from reprise.config import PositiveInt


class Checkpoints(Callback):
    """Writes `best.pt` when the monitored metric improves, `last.pt` at each epoch's end and `every_steps` optimizer
    steps, and `epoch_NNN.pt` every `every_epochs` epochs.

    The best checkpoint of the state in `last.pt` is never lost: until a newer `last.pt` stands, it is kept under the
    name of its step. So it is there for a run that carries on from `last.pt` in another way than the run before.
    """

    def __init__(self, every_epochs: PositiveInt | None = None, every_steps: PositiveInt | None = None) -> None:
        self._every_epochs = every_epochs
        self._every_steps = every_steps
        self._before: dict[str, Any] = {}
        self._step_of_best: int | None = None
        """Optimizer steps done at the best evaluation by the state in `last.pt`."""

    def on_run_start(self, run: Run) -> None:
        self._run = run

    def on_commit(self, run: Run) -> None:
        loop, directory = run.loop, run.directory
        # last.pt comes last: where it stands, a resumed run carries on, and what was due before must be there.
        due = self._due(run)
        if not due:
            return
        state = {
            "loop_state": loop.state_dict(),
            "callback_states": {name: run.callbacks[name].state_dict() for name in sorted(run.callbacks)},
        }
        # A second commit of a step comes after the evaluation at the end of the run; a longer run has none there.
        ends = self._before.get("loop_state", {}).get("step") == loop.step
        for path in due:
            if path == directory.best_checkpoint and self._step_of_best is not None:
                keep(path, directory.replaced_best_checkpoint(self._step_of_best))
            save_checkpoint(
                loop.model,
                loop.optimizer,
                loop.scheduler,
                loop.epoch,
                loop.step,
                loop.metrics,
                run.config,
                path,
                extra=state | ({"before_end": self._before} if ends else {}),
            )
        if directory.last_checkpoint in due:
            if not ends and self._step_of_best is not None:
                directory.replaced_best_checkpoint(self._step_of_best).unlink(missing_ok=True)
            self._before = state
            self._step_of_best = None if loop.best is None else loop.best.step

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best, directory = self._run.loop.best, self._run.directory
        if best is not None:
            self._step_of_best = best.step
            with contextlib.suppress(FileNotFoundError):
                directory.replaced_best_checkpoint(best.step).replace(directory.best_checkpoint)

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
