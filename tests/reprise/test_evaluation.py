import math

import pytest
import torch
from tiny_loop import NUM_LABELS, Net, make_split, masked, score

from reprise.data import TensorSplit
from reprise.metrics import ClassificationMetrics


def test_the_loss_is_the_exact_mean_over_samples_on_ragged_batches():
    model, split = Net().eval(), make_split(11)
    with torch.no_grad():
        losses = [model(**{n: c[i : i + 4] for n, c in split.columns.items()}).loss.item() for i in (0, 4, 8)]
    expected = math.fsum(loss * size for loss, size in zip(losses, (4, 4, 3), strict=True)) / 11
    assert score(model, split, 4)["val/loss"] == expected
    assert score(model, split, 4)["val/loss"] != sum(losses) / 3
    assert score(model, split, 11)["val/loss"] == pytest.approx(expected, rel=1e-6)


def test_masked_labels_do_not_count():
    model, kept = Net(), TensorSplit({name: column[:6] for name, column in make_split(10).columns.items()})
    # The last batch holds no label at all: its mean is that of nothing.
    loss = score(model, masked(10, [*range(6)]), 4, metrics={})["val/loss"]
    assert loss == pytest.approx(score(model, kept, 6, metrics={})["val/loss"], rel=1e-6)


def test_scores_are_named_after_the_split():
    assert set(score(Net(), make_split(5), 2, "test")) == {
        "test/loss",
        *(f"test/{name}" for name in ClassificationMetrics.names),
    }


def test_metrics_keep_the_last_evaluation_only():
    metrics = {"classification": ClassificationMetrics(NUM_LABELS)}
    for _ in range(2):
        score(Net(), make_split(5), 2, metrics=metrics)
    assert len(metrics["classification"].predictions()) == 5


def test_evaluation_uses_no_dropout_takes_no_gradients_and_leaves_the_model_in_evaluation_mode():
    model = Net(dropout=0.9).train()
    first = score(model, make_split(9), 4)
    assert not model.training
    assert score(model, make_split(9), 4) == first
    assert all(parameter.grad is None for parameter in model.parameters())


class Drawing(Net):
    def forward(self, inputs, labels=None):
        return super().forward(inputs + torch.randn_like(inputs), labels)


def test_a_model_that_draws_in_evaluation_draws_the_same_whenever_it_is_evaluated():
    model = Drawing()
    first = score(model, make_split(9), 4)
    torch.manual_seed(99)
    torch.rand(5)
    assert score(model, make_split(9), 4) == first
    assert score(model, make_split(9), 4, "test")["test/loss"] != first["val/loss"]
