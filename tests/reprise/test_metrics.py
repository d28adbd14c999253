import json
import math
import os
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score
from torch.nn import functional

from reprise import MetricEntry, MetricsLogger
from reprise.errors import InputError
from reprise.metrics import ClassificationMetrics, LanguageModelMetrics, weighted_sum
from reprise.runs.metrics_log import last_metrics, read_metrics

RAGGED = [[7], [1, 6], [3, 3, 1], [4, 2, 1]]


def update_in_batches(metric, logits, labels, sizes):
    metric.reset()
    for part, expected in zip(logits.split(sizes), labels.split(sizes), strict=True):
        metric.update(SimpleNamespace(logits=part), {"labels": expected}, len(expected))
    return metric


def random_answers(num_samples, num_labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_samples, num_labels, generator=generator)
    return logits, torch.randint(num_labels, (num_samples,), generator=generator)


@pytest.mark.parametrize(
    "metrics",
    [{}, {"a": 1.5}, {'b/"ü\n': 1e-320, "c": 1e22, "d": -0.0, "e": 3, "f": np.float64(0.1)}, {"g": 0.1 + 0.2}],
)
def test_a_line_is_what_json_makes_of_it(metrics):
    entry = MetricEntry("2026-11-25T19:00:00.123+00:00", 3, 12, metrics)
    assert entry.to_json() == json.dumps(entry._asdict())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_line_holds_no_number_that_is_not_finite(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        MetricEntry("now", 1, 1, {"a": value}).to_json()


@pytest.mark.parametrize("sizes", RAGGED)
@pytest.mark.parametrize("num_labels", [2, 3, 10])
def test_classification_scores_equal_those_of_scikit_learn_on_ragged_batches(sizes, num_labels):
    # Of ten labels, most occur neither as label nor as prediction, and some only as one of them.
    logits, labels = random_answers(7, num_labels)
    predicted = logits.argmax(1)
    metric = update_in_batches(ClassificationMetrics(num_labels), logits, labels, sizes)
    options = {"average": "macro", "zero_division": 0}
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, **options),
        "macro_precision": precision_score(labels, predicted, **options),
        "macro_recall": recall_score(labels, predicted, **options),
    }
    assert metric.compute() == pytest.approx(expected, rel=1e-14)
    counts = metric.details()["confusion_matrix"]["counts"]
    assert counts == confusion_matrix(labels, predicted, labels=range(num_labels)).tolist()


def test_classification_scores_do_not_depend_on_the_batches():
    logits, labels = random_answers(7, 3)
    metric = ClassificationMetrics(3)
    scores = [update_in_batches(metric, logits, labels, sizes).compute() for sizes in RAGGED]
    assert all(score == scores[0] for score in scores)
    assert set(scores[0]) == set(ClassificationMetrics.names)
    assert all(type(value) is float for value in scores[0].values())


def test_a_class_that_is_never_predicted_counts_as_zero():
    logits = torch.eye(3)[torch.tensor([0, 0, 0, 0])]
    metric = update_in_batches(ClassificationMetrics(3), logits, torch.tensor([0, 0, 0, 1]), [4])
    assert metric.compute() == {
        "accuracy": 0.75,
        "macro_f1": (6 / 7 + 0) / 2,
        "macro_precision": 0.375,
        "macro_recall": 0.5,
    }


def test_predictions_come_in_the_order_of_the_split_with_the_names_of_labels():
    logits = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    metric = ClassificationMetrics(2, label_names=["cat", "dog"])
    records = update_in_batches(metric, logits, torch.tensor([1, 1, 0]), [2, 1]).predictions()
    assert [(r["index"], r["label"], r["prediction"]) for r in records] == [
        (0, "dog", "dog"),
        (1, "dog", "cat"),
        (2, "cat", "dog"),
    ]
    assert [r["probability"] for r in records] == logits.softmax(1).max(1).values.tolist()
    json.dumps(records, allow_nan=False)


def test_bootstrap_intervals_repeat_contain_the_score_and_narrow_with_more_samples():
    widths = []
    for num_samples in (50, 800):
        logits, labels = random_answers(num_samples, 3, seed=1)
        logits += 2 * functional.one_hot(labels, 3)
        metric = update_in_batches(ClassificationMetrics(3), logits, labels, [num_samples])
        intervals = metric.details()["intervals"]
        np.random.seed(num_samples)  # no stream is touched, none has an influence
        assert metric.details()["intervals"] == intervals
        for name, value in metric.compute().items():
            low, high = intervals[name]
            assert 0 <= low < value < high <= 1
        p = metric.compute()["accuracy"]
        low, high = intervals["accuracy"]
        assert high - low == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / num_samples), rel=0.15)
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_a_perfect_answer_has_an_interval_of_no_width():
    metric = update_in_batches(ClassificationMetrics(3), torch.eye(3), torch.arange(3), [3])
    assert metric.details()["intervals"]["accuracy"] == [1.0, 1.0]


def test_the_most_frequent_class_is_the_baseline():
    logits, _ = random_answers(5, 3)
    metric = update_in_batches(ClassificationMetrics(3), logits, torch.tensor([2, 2, 0, 2, 1]), [3, 2])
    assert metric.baselines() == {"most frequent class": {"accuracy": 0.6}}


@pytest.mark.parametrize("sizes", RAGGED)
def test_samples_with_masked_labels_are_left_out_everywhere(sizes):
    logits, labels = random_answers(7, 3)
    kept = torch.tensor([1, 2, 5])
    masked = torch.full_like(labels, -100)
    masked[kept] = labels[kept]
    metric = update_in_batches(ClassificationMetrics(3), logits, masked, sizes)
    expected = update_in_batches(ClassificationMetrics(3), logits[kept], labels[kept], [3])
    assert metric.compute() == expected.compute()
    assert metric.details() == expected.details()
    assert metric.baselines() == expected.baselines()
    records = metric.predictions()
    assert [record["index"] for record in records] == kept.tolist()
    assert [{**record, "index": i} for i, record in enumerate(records)] == expected.predictions()


def test_of_no_labels_nothing_is_computed():
    logits, labels = random_answers(4, 3)
    metric = update_in_batches(ClassificationMetrics(3), logits, torch.full_like(labels, -100), [3, 1])
    assert (metric.compute(), metric.details(), metric.baselines(), metric.predictions()) == ({}, {}, {}, [])


@pytest.mark.parametrize("label", [3, -1, -99])
def test_a_label_outside_of_the_classes_is_named(label):
    logits, labels = random_answers(4, 3)
    labels[2] = label
    told = (
        rf"ClassificationMetrics: 1 of 4 labels are outside of the classes 0 to 2, the first of them {label} in row 2 "
    )
    metric = update_in_batches(ClassificationMetrics(3), logits, labels, [3, 1])
    for ask in (metric.compute, metric.details, metric.baselines):
        with pytest.raises(InputError, match=told + ".*num_labels is 3: a fact of the data set, unless the config"):
            ask()


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((4, 5), (4,)),  # a prediction beyond the classes
        ((4, 1), (4,)),  # the largest of one logit is always the first
        ((4, 6, 3), (4, 6)),  # tokens are no independent samples
        ((4, 3), (4, 1)),
    ],
)
def test_shapes_that_do_not_fit_the_classes_are_told(logits, labels):
    metric = ClassificationMetrics(3)
    message = r"ClassificationMetrics: expected for each sample a label, .* and 3 logits, .* num_labels is 3: a fact"
    with pytest.raises(InputError, match=message):
        metric.update(SimpleNamespace(logits=torch.zeros(logits)), {"labels": torch.zeros(labels).long()}, 4)
    with pytest.raises(InputError, match=r"got torch\.float32 labels"):
        metric.update(SimpleNamespace(logits=torch.zeros(4, 3)), {"labels": torch.zeros(4)}, 4)


def test_language_model_scores_of_nothing_are_left_out():
    starts = torch.tensor([True, True, False])
    logits, labels = torch.zeros(2, 4, 3), torch.full((2, 4), -100)
    metric = update_in_batches(LanguageModelMetrics(starts), logits, labels, [2])
    assert metric.compute() == {}
    assert metric.details() == {"num_tokens": 0, "num_characters": 0}
    labels[0, 1] = 2  # a token in which no character begins
    metric = update_in_batches(LanguageModelMetrics(starts), logits, labels, [1, 1])
    assert metric.compute() == {"perplexity": pytest.approx(3.0)}


def test_language_model_scores_are_means_over_tokens_and_characters_of_ragged_batches():
    # Two bytes make one character of the second half of this vocabulary: only the first of them begins one.
    starts = torch.tensor([True, True, True, False])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=generator)
    labels = torch.randint(4, (3, 5), generator=generator)
    labels[1, 3:] = -100
    metric = LanguageModelMetrics(starts)
    scores = []
    for sizes in ([3], [1, 2], [2, 1]):
        update_in_batches(metric, logits, labels, sizes)
        scores.append(metric.compute())
    assert scores[0] == scores[1] == scores[2]
    kept = labels[:, 1:] != -100
    nats = functional.cross_entropy(logits[:, :-1][kept].double(), labels[:, 1:][kept], reduction="sum").item()
    num_characters = int(starts[labels[:, 1:][kept]].sum())
    assert 0 < num_characters < int(kept.sum())
    assert scores[0]["perplexity"] == pytest.approx(math.exp(nats / int(kept.sum())), rel=1e-6)
    assert scores[0]["bits_per_character"] == pytest.approx(nats / math.log(2) / num_characters, rel=1e-6)


def test_the_sum_over_batches_is_exact_on_ragged_batches():
    means, sizes = [0.1, 1e8, 0.3, -1e8], [3, 1, 2, 1]
    tensors = [torch.tensor(mean) for mean in means]
    assert weighted_sum(tensors, sizes) == math.fsum(float(t) * n for t, n in zip(tensors, sizes, strict=True))
    assert weighted_sum([torch.tensor(1.0)] * 2, [3, 1]) == 4.0


def test_a_line_of_the_metrics_file_is_as_the_contract_says(tmp_path):
    path = tmp_path / "logs" / "metrics.jsonl"
    logger = MetricsLogger(path)
    entry = logger.log(3, 120, {"train/loss": 0.1 + 0.2, "val/accuracy": np.float32(0.5), "count": 3})
    assert os.stat(path).st_size > 0  # there for readers as soon as `log` returns
    logger.close()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    values = json.loads(line)
    assert list(values) == ["timestamp", "epoch", "step", "metrics"]
    assert datetime.fromisoformat(values["timestamp"]).utcoffset() == timedelta(0)
    assert (type(values["epoch"]), type(values["step"])) == (int, int)
    assert (values["epoch"], values["step"]) == (3, 120)
    assert values["metrics"] == {"train/loss": 0.30000000000000004, "val/accuracy": 0.5, "count": 3.0}
    assert all(type(value) is float for value in values["metrics"].values())
    assert MetricEntry.from_json(line) == entry == next(read_metrics(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, torch.tensor(torch.nan)])
def test_a_metric_that_is_no_finite_number_is_refused_and_nothing_is_written(tmp_path, value):
    logger = MetricsLogger(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="metric 'b' at step 7: expected a finite number"):
        logger.log(1, 7, {"a": 1.0, "b": value})
    logger.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_logger_carries_on_behind_what_is_there_and_cuts_back_to_what_was_committed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsLogger(path)
    first.log(1, 1, {"a": 1})
    length = first.length
    first.log(1, 2, {"a": 2})
    first.close()
    second = MetricsLogger(path)
    second.truncate(length)
    second.log(1, 2, {"a": 3})
    assert [(e.step, e.metrics["a"]) for e in read_metrics(path)] == [(1, 1.0), (2, 3.0)]
    with pytest.raises(ValueError, match="lines have been lost"):
        second.truncate(10_000)
    second.close()


def test_a_line_that_is_still_being_written_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = MetricsLogger(path)
    logger.log(1, 1, {"a": 1})
    logger.log(1, 2, {"a": 2})
    logger.close()
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert [entry.step for entry in read_metrics(path)] == [1]


def test_few_lines_of_many_are_read_without_the_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert (list(read_metrics(path)), last_metrics(path)) == ([], None)
    logger = MetricsLogger(path)
    for step in range(1, 7):
        logger.log(1, step, {"train/loss": 0.5} | ({"val/loss": 0.25} if step % 3 == 0 else {}))
    assert [entry.step for entry in read_metrics(path, "val/")] == [3, 6]
    assert [entry.step for entry in read_metrics(path, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert list(read_metrics(path, "loss")) == []
    logger.log(2, 7, {"train/loss": 0.5})
    with path.open("a") as file:
        file.write('{"timestamp": "2026-')  # still being written
    assert last_metrics(path).step == 7
    path.write_text("[]\n")
    for read in (last_metrics, lambda path: list(read_metrics(path))):
        with pytest.raises(InputError, match=r"metrics\.jsonl, line 1: not an entry of metrics"):
            read(path)
