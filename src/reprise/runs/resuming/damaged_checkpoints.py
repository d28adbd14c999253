"""Replaces damaged checkpoints of a run by whole ones."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch

from reprise.errors import CheckpointError
from reprise.files.atomic_file import copy_file, keep
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory

logger = logging.getLogger(__name__)


def replace_last(last: Path, whole: Path, step: int, damage: CheckpointError) -> None:
    """Set the last checkpoint aside, and put a whole one, of optimizer step `step`, in its place."""
    aside = _set_aside(last)
    copy_file(whole, last)
    logger.warning("%s; it is now %s, and %s of step %d takes its place", damage, aside.name, whole.name, step)


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
    same = [path for its_step, path in whole_checkpoints(directory) if its_step == step]
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


def whole_checkpoints(directory: RunDirectory) -> list[tuple[int, Path]]:
    """Return the checkpoints that are not damaged, with their optimizer steps, in the order of their names."""
    whole = []
    for path in sorted(directory.checkpoints.glob("*.pt")):
        with contextlib.suppress(CheckpointError):
            whole.append((read_checkpoint(path)["step"], path))
    return whole


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    aside.unlink(missing_ok=True)
    keep(path, aside)
    return aside
