"""Scores a model on the batches of one split."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn

from reprise.data import Batch, on_device
from reprise.data.loading import Batches
from reprise.metrics import Metric, weighted_sum
from reprise.randomness import address, seed_globals


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
) -> dict[str, float]:
    """Return the mean loss and all metrics under names such as `val/loss`; the model is left in evaluation mode.

    The metrics keep the batches, so that their `details` and `predictions` can be asked for afterwards.
    """
    model.eval()
    for metric in metrics.values():
        metric.reset()
    losses, counts = [], []
    # A model that draws in evaluation, too, draws the same whenever it is evaluated.
    seed_globals(address(seed, "evaluation", split))
    with torch.inference_mode():
        for host_batch in batches:
            num_items = count_items(host_batch)
            batch = on_device(host_batch, device)
            with autocast():
                outputs = model(**batch)
            for metric in metrics.values():
                metric.update(outputs, batch, num_items)
            losses.append(outputs.loss)
            counts.append(num_items)
    scores = {f"{split}/loss": weighted_sum(losses, counts) / sum(counts)}
    for metric in metrics.values():
        scores |= {f"{split}/{name}": value for name, value in metric.compute().items()}
    return scores
