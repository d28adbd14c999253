"""Restores a run from its last checkpoint, in memory alone: until all of it fits, no file changes."""

import logging
from dataclasses import dataclass
from pathlib import Path

from reprise.config.components import callback_targets
from reprise.errors import CheckpointError, ConfigError, Problem
from reprise.files.atomic_file import copy_file
from reprise.randomness import restore_rng_state
from reprise.runs.building import Task
from reprise.runs.checkpoint import load_state
from reprise.runs.resuming.best_evaluation import choose_best
from reprise.runs.resuming.damaged_checkpoints import replace_last
from reprise.runs.resuming.optimizer_settings import Settings
from reprise.runs.resuming.restored_state import Saved
from reprise.runs.stages import RunBeforeTraining, RunInTraining
from reprise.training.monitoring import Best

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What has to be done to the files of a run once its state is restored."""

    step: int = 0
    saved: Saved | None = None
    best: Path | None = None
    """The checkpoint that becomes the best one, where the monitor has changed."""

    def mend_last(self, run: RunInTraining) -> None:
        """Have the last checkpoint be the one that the run goes on from."""
        if self.saved is not None and self.saved.damage is not None:
            replace_last(run.directory.last_checkpoint, self.saved.path, self.step, self.saved.damage)

    def put_best(self, run: RunInTraining) -> None:
        """Have the best checkpoint be that of the best evaluation by the present monitor."""
        directory = run.directory
        if self.best is not None and self.best != directory.best_checkpoint:
            copy_file(self.best, directory.best_checkpoint)


def restore(run: RunInTraining, task: Task, saved: Saved | None, measured_otherwise: str | None = None) -> Restored:
    """Load what was saved into the parts of the run, and have the changes of the config take effect.

    `measured_otherwise`: why evaluations so far cannot be compared with those to come, if they cannot.

    Raises:
        ConfigError: if a change cannot take effect.
        CheckpointError: if the state does not fit although nothing has changed.
    """
    if saved is None:
        return Restored()
    try:
        best = _restore(run, task, saved, measured_otherwise)
    except (CheckpointError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        if saved.changed_keys:
            keys = ", ".join(saved.changed_keys)
            raise refusal(run, [Problem(keys, f"the state in {saved.path} does not fit: {what}")]) from None
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{saved.path} does not fit the run: {what}") from error
    logger.info("carrying on from step %d of %d", run.loop.step, run.loop.total_steps)
    return Restored(run.loop.step, saved, best)


def refusal(run: RunBeforeTraining, problems: list[Problem]) -> ConfigError:
    return ConfigError(problems, f"{run.directory.path} cannot be resumed so; nothing was changed")


def _restore(run: RunInTraining, task: Task, saved: Saved, measured_otherwise: str | None) -> Path | None:
    loop, state = run.loop, saved.state
    settings = Settings(task, loop, saved)
    settings.prepare()
    load_state(state, saved.path, loop.model, loop.optimizer, None if settings.makes_schedule else loop.scheduler)
    settings.apply()
    loop_state = saved.loop_state
    if loop_state["scaler"] is None or not loop.scales_loss:
        if (loop_state["scaler"] is None) is loop.scales_loss:
            logger.info(
                "training.precision: the scale of the loss %s", "begins anew" if loop.scales_loss else "is dropped"
            )
        loop_state = loop_state | {"scaler": loop.state_dict()["scaler"]}
    loop.load_state_dict(loop_state)
    targets, earlier = (callback_targets(config.to_dict()) for config in (task.config, saved.config))
    for name, callback in run.callbacks.items():
        is_known = name not in targets or targets[name]["_target_"] == earlier.get(name, {}).get("_target_")
        if is_known and name in saved.callback_states:
            callback.load_state_dict(saved.callback_states[name])
        else:
            logger.info("the callback %s is new from step %d on", name, loop.step)
    restore_rng_state(state)
    if saved.changed_keys:
        loop.stop_reason = None  # the reason need not hold for the changed config
        if not loop.cadence.evaluates(loop.step):
            loop.evaluation_is_due = False
    return _restore_best(run, measured_otherwise)


def _restore_best(run: RunInTraining, measured_otherwise: str | None) -> Path | None:
    """Have the best evaluation be one by the metric that is monitored now; return its checkpoint if that is new."""
    loop, best = run.loop, run.loop.best
    if measured_otherwise is not None:
        loop.best, loop.chosen_from = None, loop.step
        logger.warning(
            "the best evaluation is forgotten, since %s: the next one is the best so far", measured_otherwise
        )
        return None
    if best is None or (best.metric, best.mode) == (loop.monitor, loop.monitor_mode):
        return None
    found: tuple[Best | None, Path | None, int] = (None, None, 0)
    if run.processes.is_first:
        until = loop.evaluated_step
        found = choose_best(run.directory, loop.monitor, loop.monitor_mode, loop.chosen_from, until)
    loop.best, path, loop.chosen_from = run.processes.from_first(found)
    if loop.best is None:
        logger.warning(
            "training.monitor: no checkpoint is left of the best evaluation by %s so far; those up to step %d do not "
            "count, and the next one is the best so far",
            *(loop.monitor, loop.chosen_from),
        )
    else:
        since = (
            f" of those after step {loop.chosen_from}, since those before have no checkpoint"
            if loop.chosen_from
            else ""
        )
        logger.info(
            "training.monitor: by %s the best evaluation so far%s is that of step %d (%.4g)",
            *(loop.monitor, since, loop.best.step, loop.best.value),
        )
    return path
