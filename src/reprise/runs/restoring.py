"""Restores a run from its last checkpoint, and replaces damaged checkpoints by whole ones."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch

from reprise.errors import CheckpointError
from reprise.files.atomic_file import copy_file, keep
from reprise.files.differences import compare
from reprise.randomness import restore_rng_state
from reprise.runs.checkpoint import load_checkpoint, read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.stages import RunInTraining

logger = logging.getLogger(__name__)


def restore(run: RunInTraining) -> int:
    """Restore the run from its last checkpoint, if there is one, and return its step.

    Raises:
        CheckpointError: if no checkpoint is whole, or it is not one of this run.
    """
    path, loop = run.directory.last_checkpoint, run.loop
    state = _load_last(run) if run.processes.is_first and path.exists() else None
    if not run.processes.from_first(state is not None):
        return 0
    if state is None:  # the first process has checked the file
        state = load_checkpoint(path, loop.model, loop.optimizer, loop.scheduler, run.device)
    try:
        _apply(run, state)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the run: {type(error).__name__}: {error}") from error
    logger.info("carrying on from step %d of %d", loop.step, loop.total_steps)
    return loop.step


def _load_last(run: RunInTraining) -> dict[str, Any]:
    path, loop = run.directory.last_checkpoint, run.loop
    try:
        return load_checkpoint(path, loop.model, loop.optimizer, loop.scheduler, run.device)
    except CheckpointError as error:
        _replace_damaged(path, error)
        return load_checkpoint(path, loop.model, loop.optimizer, loop.scheduler, run.device)


def _apply(run: RunInTraining, state: dict[str, Any]) -> None:
    loop = run.loop
    is_changed = bool(compare(state["config"], run.config))
    if is_changed and "before_end" in state:
        state |= state["before_end"]  # a longer run has no evaluation at this step
    loop.load_state_dict(state["loop_state"])
    for name, callback in run.callbacks.items():
        if name in state["callback_states"]:
            callback.load_state_dict(state["callback_states"][name])
        else:
            logger.info("the callback %s is new from step %d on", name, loop.step)
    restore_rng_state(state)
    if is_changed:
        loop.stop_reason = None  # the reason need not hold for the changed config


def _replace_damaged(last: Path, error: CheckpointError) -> None:
    """Set the last checkpoint aside, and put the newest whole one in its place.

    Raises:
        CheckpointError: the given one, if there is none; then nothing is touched.
    """
    whole = _whole_checkpoints(last.parent)
    if last in [path for _, path in whole]:
        raise error  # it is whole, and does not fit
    if not whole:
        raise CheckpointError(f"{error}; no other checkpoint is whole, and nothing was overwritten") from None
    step, newest = max(whole)
    aside = _set_aside(last)
    copy_file(newest, last)
    logger.warning("%s; it is now %s, and %s of step %d takes its place", error, aside.name, newest.name, step)


def mend_best(directory: RunDirectory, step: int, device: torch.device) -> dict[str, Any] | None:
    """Return the best checkpoint, of optimizer step `step`, and None if there is none.

    A damaged one is replaced by any other checkpoint of that step, which has the same content.

    Raises:
        CheckpointError: if there is no other; a checkpoint of another step is not the best.
    """
    best = directory.best_checkpoint
    try:
        return read_checkpoint(best, device)
    except FileNotFoundError:
        return None  # `score_checkpoint` reports it
    except CheckpointError as damage:
        error = damage
    same = [path for its_step, path in _whole_checkpoints(directory.checkpoints) if its_step == step]
    if not same:
        raise CheckpointError(
            f"{error}; no other checkpoint is of step {step}, and none but that may be called the best. Without the "
            f"files in {directory.checkpoints} the run starts over, and ends with the same bits; "
            f"scripts/evaluate.py {directory.path} --checkpoint last scores the last weights"
        )
    aside = _set_aside(best)
    copy_file(same[0], best)
    logger.warning("%s; it is now %s, and %s of the same step takes its place", error, aside.name, same[0].name)
    return read_checkpoint(best, device)


def _whole_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    whole = []
    for path in folder.glob("*.pt"):
        with contextlib.suppress(CheckpointError):
            whole.append((read_checkpoint(path)["step"], path))
    return whole


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    aside.unlink(missing_ok=True)
    keep(path, aside)
    return aside
