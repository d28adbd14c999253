"""Scores the best checkpoint on the test split, and writes metrics, predictions, baselines and samples."""

from collections.abc import Mapping
from typing import Any

from reprise.data import Batch, on_device
from reprise.errors import InputError
from reprise.files.atomic_file import write_json
from reprise.files.content_hash import content_hash
from reprise.files.json_values import at, number_at
from reprise.models import evaluating
from reprise.randomness.addresses import generation_seed
from reprise.runs.building import Task
from reprise.runs.checkpoint import load_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.text.suggestions import instead
from reprise.training.finite_values import finite_scores
from reprise.training.monitoring import no_items
from reprise.training.scalars import plain_number, scalar_loss


def score_checkpoint(
    task: Task, directory: RunDirectory, checkpoint: str, split: str, state: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Load a checkpoint into the task's model, and return what `results/metrics.json` holds about it.

    The model is left with those weights, in evaluation mode.

    `state`: the content of the checkpoint, if it was read already. Scores that are not finite are left out; of a split
    without an item to score there are none.

    Raises:
        InputError: if there is no such checkpoint.
        CheckpointError: if it is damaged or not that of a run.
    """
    if state is None:
        state = load_checkpoint(directory.checkpoint(checkpoint), task.model, device=task.device)
    else:
        task.model.load_state_dict(state["model_state_dict"])
    task.model.eval()
    scores = {name: float(score) for name, score in finite_scores(task.evaluate(split), state["step"]).items()}
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
        "details": {name: details for name, metric in task.metrics.items() if (details := metric.details())}
        if task.processes.is_first and scores
        else {},
        "weights_sha256": content_hash(state["model_state_dict"]),
    }


def _monitored(state: Mapping[str, Any], checkpoint: str, monitor: str) -> float | None:
    """Return the monitored value of the best evaluation; None where the state knows of one by another metric."""
    if checkpoint == "best":  # it was saved with that evaluation
        return number_at(state["metrics"], monitor)
    best, before = at(state, "loop_state", "best"), at(state, "config", "training", "monitor")
    return number_at(best, "value") if (at(best, "metric") or before) == monitor else None


def write_results(
    task: Task, directory: RunDirectory, best: Mapping[str, Any] | None = None, chosen_from: int = 0
) -> dict[str, Any]:
    """Score the best checkpoint on the test split, or on `val` where there is none; write it down and return it.

    Predictions and metrics are written. The best weights stay in the task's model. Of several processes the first one
    writes, and has the model. `best`: the content of the best checkpoint, if it was read already. `chosen_from`: the
    step up to which evaluations were no candidates.
    """
    split = "test" if "test" in task.data.splits else "val"
    results = score_checkpoint(task, directory, "best", split, best)
    if chosen_from:
        results["monitor"]["after_step"] = chosen_from
    task.make_whole()
    if not task.processes.is_first:
        return results
    for path in directory.plots:
        path.unlink()  # they may be those of a shorter run
    metrics = task.metrics.values() if results["metrics"] else ()
    predictions = [record for metric in metrics for record in metric.predictions()]
    results["baselines"] = {name: dict(m) for metric in metrics for name, m in metric.baselines().items()}
    if split == "test":
        results["baselines"] |= {name: dict(method()) for name, method in task.data.baselines.items()}
    if task.data.generate is not None:
        with evaluating(task.model) as model:
            results["samples"] = list(task.data.generate(model, generation_seed(task.config.seed)))
    write_json(directory.predictions, predictions)
    write_json(directory.metrics, results)
    return results


def shapes(task: Task) -> dict[str, Any]:
    """Return the shapes of one batch of the validation split and of the logits for it, without the batch dimension.

    It is the first one that has an item to score.

    Raises:
        InputError: if the metrics of that batch lack what `training.monitor` names, or the split has no item to score.
    """
    num_items = 0
    for host_batch in task.batches("val"):
        if num_items := task.data.count_items(host_batch):
            break
    else:
        if task.config.training.monitor.startswith("val/"):
            raise no_items("val", task.config.training.monitor)
    batch = on_device(host_batch, task.device)
    with evaluating(task.model) as model, task.autocast():
        outputs = model(**batch)
    if num_items:
        scalar_loss(outputs.loss, task.model)
        _check_monitor(task, outputs, batch, num_items)
    return {
        "input_shapes": {name: list(tensor.shape[1:]) for name, tensor in batch.items() if name != "labels"},
        "logits_shape": list(outputs.logits.shape[1:]),
    }


def _check_monitor(task: Task, outputs: Any, batch: Batch, num_items: int) -> None:
    """Raise an InputError if the monitored metric is not computed: what `names` of a metric promises is checked."""
    computed = {"train/loss", "val/loss"}
    for metric in task.metrics.values():
        metric.reset()
        try:
            metric.update(outputs, batch, num_items)
            scores = metric.compute()
            computed |= {f"val/{name}" for name in scores}
            for name, score in scores.items():
                plain_number(score, f"{name!r}, from {type(metric).__name__}.compute")
        except InputError:
            raise
        except Exception:  # of one batch alone it need not be defined
            computed |= {f"val/{name}" for name in metric.names}
        metric.reset()
    monitor = task.config.training.monitor
    if monitor not in computed:
        raise InputError(f"training.monitor: no metric computes {monitor!r}; {instead(monitor, computed)}")
