"""Scores a model on the batches of one split."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from reprise.data import Batch, on_device
from reprise.errors import EvaluationStopped
from reprise.metrics import Metric, weighted_sum
from reprise.models import evaluating
from reprise.randomness.addresses import after_evaluation_seed, evaluation_seed, seed_globals
from reprise.training.loading import Batches
from reprise.training.processes import ALONE, Processes
from reprise.training.scalars import plain_number, scalar_loss

logger = logging.getLogger(__name__)


def evaluate(
    model: nn.Module,
    batches: Batches,
    metrics: Mapping[str, Metric],
    *,
    split: str,
    seed: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    count_items: Callable[[Batch], int],
    processes: Processes = ALONE,
    is_sharded: bool = False,
    should_stop: Callable[[], bool] = bool,
) -> dict[str, float]:
    """Return the mean loss and all metrics under names such as `val/loss`; the model is left in evaluation mode.

    Of a split without any item there are none.

    The metrics keep the batches, so that their `details` and `predictions` can be asked for afterwards. With several
    processes those of the first one keep all of them. Each process scores a share of the batches if all metrics name
    what they keep (`Metric.per_batch`), and all batches otherwise: none is counted twice. `is_sharded`: the model
    computes only in all processes at once.

    Raises:
        EvaluationStopped: if `should_stop` says so, which is asked at the beginning and before each batch. All
            processes must get the same answer: those that go on would wait for those that do not.
    """
    if should_stop():
        raise EvaluationStopped  # a process whose share is empty has no batch before which it would ask
    for metric in metrics.values():
        metric.reset()
    losses, counts = [], []
    is_shared = processes.size > 1 and all(metric.per_batch for metric in metrics.values())
    share = processes.share(len(batches)) if is_shared else range(len(batches))
    num_passes = -(-len(batches) // processes.size) if is_shared and is_sharded else len(share)
    with evaluating(model):
        fetched = batches.between(share.start, share.start + num_passes)
        for number, host_batch in enumerate(fetched, share.start):
            if should_stop():
                raise EvaluationStopped
            num_items = int(count_items(host_batch))
            batch = on_device(host_batch, device)
            # A model that draws in evaluation, too, draws the same whenever it is evaluated.
            seed_globals(evaluation_seed(seed, split, number))
            # The loss of a batch without items may be no number, and nothing is wrong.
            with autocast(), nullcontext() if num_items else torch.autograd.set_detect_anomaly(False):
                outputs = model(**batch)
            if number not in share:
                continue  # it was for the others, whose share is larger by one
            for metric in metrics.values():
                metric.update(outputs, batch, num_items)
            if num_items:  # or the loss is a mean over nothing
                # A CUDA graph writes its results to the same memory again.
                losses.append(scalar_loss(outputs.loss, model).clone())
                counts.append(num_items)
    model.eval()
    # Whatever share of the batches was scored here, the random state is the same afterwards.
    seed_globals(after_evaluation_seed(seed, split))
    scores: dict[str, float] = {}
    if is_shared:
        losses, counts = _joined(processes, metrics, losses, counts)
    if processes.is_first and not counts:
        logger.warning("the split %s has no item to score: its metrics are left out", split)
    elif processes.is_first:
        scores[f"{split}/loss"] = weighted_sum(losses, counts) / sum(counts)
        for metric in metrics.values():
            for name, score in metric.compute().items():
                scores[f"{split}/{name}"] = plain_number(score, f"{name!r}, from {type(metric).__name__}.compute")
    return processes.from_first(scores)


def _joined(
    processes: Processes, metrics: Mapping[str, Metric], losses: list[Tensor], counts: list[int]
) -> tuple[list[Tensor], list[int]]:
    """Bring the shares of all processes together in the first one, metrics as well; return losses and counts."""
    here = [loss.cpu() for loss in losses], counts, {name: metric.batch_values() for name, metric in metrics.items()}
    shares = processes.at_first(here)
    if shares:
        for name, metric in metrics.items():
            metric.join([batch_values[name] for *_, batch_values in shares])
    return [loss for share in shares for loss in share[0]], [count for share in shares for count in share[1]]
