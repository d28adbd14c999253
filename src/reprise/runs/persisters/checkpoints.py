"""Saves the best, the last and periodic checkpoints, each independent of the others."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config import PositiveInt
from reprise.data import describe_data
from reprise.files.atomic_file import copy_file, keep, sync
from reprise.files.disk import checkpoint_size, translate_disk_errors, warn_of_little_space
from reprise.runs.checkpoint import HostCopy, gather_state, plain, write_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.training.cadence import is_every


class Checkpoints(Callback):
    """Writes `best.pt` when the monitored metric improves, `last.pt` at each epoch's end and `every_steps` optimizer
    steps, and `epoch_NNN.pt` every `every_epochs` epochs, of which the newest `keep` stay; null keeps all.

    In the `background` training waits for no disk: the state is copied in memory, and written while training goes on.
    That needs host memory for one more state.

    The best checkpoint of the state in `last.pt` is never lost: until a newer `last.pt` stands, it is kept under the
    name of its step. So a run that resumes from `last.pt` with a changed config still finds it.

    With several processes the first one writes. The others take part, since of a sharded model each has a part.
    """

    on_every_process = True

    def __init__(
        self,
        every_epochs: PositiveInt | None = None,
        every_steps: PositiveInt | None = None,
        background: bool = True,
        keep: PositiveInt | None = None,
    ) -> None:
        self._every_epochs = every_epochs
        self._every_steps = every_steps
        self._keep = keep
        self._writer = _Background() if background else None
        self._host_copy = HostCopy()
        self._before: dict[str, Any] = {}
        self._step_of_best: int | None = None
        """Optimizer steps done at the best evaluation by the state in `last.pt`."""

    def on_train_start(self, run: Run) -> None:
        self._directory = directory = RunDirectory(run.directory.path)
        self._warn_of_little_space(run)
        best = run.loop.best
        if best is not None:
            self._step_of_best = best.step
        if best is not None and run.processes.is_first:
            with contextlib.suppress(FileNotFoundError):
                directory.replaced_best_checkpoint(best.step).replace(directory.best_checkpoint)

    def on_commit(self, run: Run) -> None:
        if not (due := self._due(run)):
            return
        if self._writer is not None:
            self._writer.wait()  # for the one before; the copy is its memory
        loop, directory = run.loop, self._directory
        loop.check_finite(weights=True)  # what is not has to leave the last good checkpoint in place
        for callback in run.callbacks.values():
            callback.on_save(run)
        states = {
            "loop_state": loop.state_dict(),
            "callback_states": {name: run.callbacks[name].state_dict() for name in sorted(run.callbacks)},
        }
        # A second commit of a step comes after the evaluation at the end of the run; a longer run has none there.
        ends = self._before.get("loop_state", {}).get("step") == loop.step
        values = {"epoch": loop.epoch, "step": loop.step, "metrics": loop.metrics, "config": run.config, **states}
        values["splits"] = describe_data(run.data)["splits"]
        if ends:
            values["before_end"] = self._before
        whole = gather_state(loop.model, loop.optimizer, loop.scheduler, values)
        step_of_best = self._step_of_best
        replaced = None if step_of_best is None else directory.replaced_best_checkpoint(step_of_best)
        is_last = directory.last_checkpoint in due
        if loop.finished:
            self._before = plain(states, tensor=lambda tensor, _: tensor.detach().clone())
        if is_last:
            self._step_of_best = None if loop.best is None else loop.best.step

        if not run.processes.is_first:
            return

        def write(plain_state: dict[str, Any]) -> None:
            sync(directory.metrics_log)  # the state says how long it is
            first = due[0]
            for path in due:
                with translate_disk_errors(path, plain_state):
                    if path == directory.best_checkpoint and replaced is not None:
                        keep(path, replaced)
                    if path == first:
                        write_checkpoint(plain_state, path)
                    else:
                        copy_file(first, path)
                if path == directory.epoch_checkpoint(plain_state["epoch"]):
                    self._remove_old(directory, plain_state["epoch"])
            if is_last and not ends and replaced is not None:
                replaced.unlink(missing_ok=True)

        if self._writer is None:
            write(plain(whole))
            return
        copied = self._host_copy.take(whole)
        self._writer.start(lambda: write(copied))
        if loop.finished or loop.interruption is not None:
            self._writer.wait()

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        if self._writer is not None and not run.stoppable.stops_at_once:
            self._writer.wait()

    def _remove_old(self, directory: RunDirectory, epoch: int) -> None:
        """Remove the periodic checkpoints up to `epoch` that are more than are kept."""
        if self._keep is not None:
            for _, path in [old for old in directory.epoch_checkpoints() if old[0] <= epoch][: -self._keep]:
                path.unlink()

    def _warn_of_little_space(self, run: Run) -> None:
        loop = run.loop
        num_epochs = loop.cadence.epoch_of(loop.total_steps)
        num_periodic = 0 if self._every_epochs is None else num_epochs // self._every_epochs
        # Best and last, the one that is being written, and the best one that it replaces.
        num_files = 4 + min(num_periodic, self._keep or num_periodic)
        warn_of_little_space(self._directory.checkpoints, checkpoint_size(loop.model, loop.optimizer), num_files)

    def _due(self, run: Run) -> list[Path]:
        """Return what is to be written now. `last.pt` comes last: a run that resumes from it has the others already."""
        loop, directory = run.loop, self._directory
        if loop.evaluation_is_due:
            return [directory.last_checkpoint]  # the others are for when it is done
        epoch_ends = loop.cadence.ends_epoch(loop.step)
        steps_due = is_every(self._every_steps, loop.step)
        is_best = loop.evaluated_step == loop.step and loop.best is not None and loop.best.step == loop.step
        is_last = epoch_ends or steps_due or loop.finished or loop.interruption is not None
        if not (is_best or is_last):
            return []  # as after most steps
        due = []
        if is_best:
            due.append(directory.best_checkpoint)
        if epoch_ends and is_every(self._every_epochs, loop.epoch):
            due.append(directory.epoch_checkpoint(loop.epoch))
        if is_last:
            due.append(directory.last_checkpoint)
        return due


class _Background:
    """One piece of work at a time, in a thread of its own; what goes wrong there is raised where it is waited for."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        def carry_out() -> None:
            try:
                work()
            except BaseException as error:
                self._error = error

        self._thread = Thread(target=carry_out, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            while self._thread.is_alive():
                self._thread.join(1.0)  # a signal that comes right before it waits is handled when it wakes
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
