"""Scores the best checkpoint on the test split, and writes metrics, predictions, baselines and samples."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from reprise.errors import InputError
from reprise.files.atomic_file import write_json
from reprise.files.content_hash import content_hash
from reprise.files.json_file import read_object
from reprise.files.json_values import at, number_at, text_at
from reprise.files.plain_json import plain_json
from reprise.metrics import Metric
from reprise.models import evaluating
from reprise.randomness.addresses import generation_seed
from reprise.runs.building import Task
from reprise.runs.checkpoint import load_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.training.finite_values import finite_scores

Making = Callable[[str], AbstractContextManager[None]]
"""Gives a part of the results, called by its name, a context that may keep what goes wrong there."""


def _raising(part: str) -> AbstractContextManager[None]:
    return nullcontext()


def score_checkpoint(
    task: Task,
    directory: RunDirectory,
    checkpoint: str,
    split: str,
    state: Mapping[str, Any] | None = None,
    making: Making = _raising,
) -> dict[str, Any]:
    """Load a checkpoint into the task's model, and return what `results/metrics.json` holds about it.

    The model is left with those weights, in evaluation mode.

    `state`: the content of the checkpoint, if it was read already. Scores that are not finite are left out; of a split
    without an item to score there are none. They are None if they could not be computed, and `making` allows that.

    Raises:
        InputError: if there is no such checkpoint.
        CheckpointError: if it is damaged or not that of a run.
    """
    if state is None:
        state = load_checkpoint(directory.checkpoint(checkpoint), task.model, device=task.device, restore_rng=False)
    else:
        task.model.load_state_dict(state["model_state_dict"])
    weights_sha256 = content_hash(state["model_state_dict"])  # now: a model may use what it was given as its own
    task.model.eval()
    scores: dict[str, float] | None = None
    # One of several processes cannot go on without the others.
    with making(f"scores of the {split} split") if task.processes.size == 1 else nullcontext():
        scores = {name: float(score) for name, score in finite_scores(task.evaluate(split), state["step"]).items()}
    details: dict[str, Any] = {}
    for name, metric in task.metrics.items() if scores and task.processes.is_first else ():
        with making(part := f"metrics.{name}.details"):
            if found := metric.details():
                details[name] = plain_json(found, part)
    training = task.config.training
    return {
        "checkpoint": checkpoint,
        "epoch": state["epoch"],
        "step": state["step"],
        "split": split,
        "monitor": {
            "metric": training.monitor,
            "mode": training.monitor_mode,
            "value": _monitored(state, checkpoint, training.monitor),
        },
        "metrics": scores,
        "validation_metrics": state["metrics"],
        "details": details,
        "weights_sha256": weights_sha256,
    }


def _monitored(state: Mapping[str, Any], checkpoint: str, monitor: str) -> float | None:
    """Return the monitored value of the best evaluation; None where the state knows of one by another metric."""
    if checkpoint == "best":  # it was saved with that evaluation
        return number_at(state["metrics"], monitor)
    best, before = at(state, "loop_state", "best"), at(state, "config", "training", "monitor")
    return number_at(best, "value") if (at(best, "metric") or before) == monitor else None


def write_results(
    task: Task,
    directory: RunDirectory,
    best: Mapping[str, Any] | None = None,
    chosen_from: int = 0,
    making: Making = _raising,
) -> dict[str, Any]:
    """Score the best checkpoint on the test split, or on `val` where there is none; write it down and return it.

    Predictions and metrics are written. The best weights stay in the task's model. Of several processes the first one
    writes, and has the model. `best`: the content of the best checkpoint, if it was read already. `chosen_from`: the
    step up to which evaluations were no candidates. What cannot be made, if `making` allows that, is left out.
    """
    split = "test" if "test" in task.data.splits else "val"
    results = score_checkpoint(task, directory, "best", split, best, making)
    if chosen_from:
        results["monitor"]["after_step"] = chosen_from
    task.make_whole()
    if not task.processes.is_first:
        return results
    _remove_results_of_other_weights(directory, results["weights_sha256"])
    is_scored = results["metrics"] is not None
    results["metrics"] = results["metrics"] or {}
    metrics = task.metrics if results["metrics"] else {}  # of a part of the batches there is nothing to tell
    baselines = results["baselines"] = dict[str, Any]()
    for name, metric in metrics.items():
        with making(part := f"metrics.{name}.baselines"):
            baselines |= plain_json(metric.baselines(), part)
    for name, method in task.data.baselines.items() if split == "test" else ():
        with making(part := f"data.baselines: {name}"):
            baselines[name] = plain_json(method(), part)
    if task.data.generate is not None:
        with making(part := "data.generate"), evaluating(task.model) as model:
            samples = task.data.generate(model, generation_seed(task.config.seed))
            results["samples"] = plain_json(list(samples), part)
    if is_scored:
        with making(directory.predictions.name):
            _write_predictions(directory.predictions, metrics)
    with making(directory.metrics.name):
        write_json(directory.metrics, results)
    return results


def _remove_results_of_other_weights(directory: RunDirectory, weights_sha256: str) -> None:
    """Remove what a shorter run has left, so that nothing of it stands beside results of these weights."""
    for path in directory.plots:
        path.unlink()
    directory.predictions.unlink(missing_ok=True)
    try:
        recorded = text_at(read_object(directory.metrics), "weights_sha256")
    except InputError:
        recorded = "damaged"
    if recorded not in (None, weights_sha256):
        directory.metrics.unlink()
        directory.model_card.unlink(missing_ok=True)
        shutil.rmtree(directory.export, ignore_errors=True)


def _write_predictions(path: Path, metrics: Mapping[str, Metric]) -> None:
    predictions = [record for metric in metrics.values() for record in metric.predictions()]
    try:
        write_json(path, predictions)
    except (TypeError, ValueError):  # there may be millions of them, and most are plain as they are
        write_json(path, plain_json(predictions, path.name))
