"""Finds the best evaluation so far by another metric than the run was monitored by."""

from pathlib import Path

from reprise.runs.metrics_log import read_metrics
from reprise.runs.resuming.damaged_checkpoints import whole_checkpoints
from reprise.runs.run_directory import RunDirectory
from reprise.training.monitoring import Best, Mode, best_of


def choose_best(
    directory: RunDirectory, monitor: str, mode: Mode, after: int, until: int
) -> tuple[Best | None, Path | None, int]:
    """Return the best of the logged evaluations after step `after` and up to `until`, its checkpoint, and `after`.

    Where there is no checkpoint of the best one, the first evaluations are left out until there is one of the best of
    the others: `after` is then a later step. There is no best evaluation if none has a checkpoint.
    """
    paths = dict(reversed(whole_checkpoints(directory)))  # best.pt before others of its step
    evaluations = [
        entry
        for entry in read_metrics(directory.metrics_log, monitor)
        if monitor in entry.metrics and after < entry.step <= until
    ]
    chosen: tuple[Best | None, Path | None, int] = (None, None, max(after, until))
    best: Best | None = None
    for number, entry in reversed(list(enumerate(evaluations))):
        value, place = entry.metrics[monitor], (entry.epoch, entry.step)
        this = best_of(None, value, monitor, mode, *place)
        # Of equals the first: `this` stays unless the later one is better.
        best = this if best is None else best_of(this, best.value, monitor, mode, best.epoch, best.step)
        if best.step in paths:
            chosen = best, paths[best.step], evaluations[number - 1].step if number else after
    return chosen
