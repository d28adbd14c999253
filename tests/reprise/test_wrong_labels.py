"""Labels outside of the classes are one message that says which, wherever they come from, before a loss sees them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import run_facts
from odd_parts import OWN, part
from tiny_runs import TINY, compose

from reprise.data import Data, Description, TensorSplit, count_labels, stack
from reprise.data.labels import ClassLabels, class_labels, outside_of_classes
from reprise.data.tokenized_texts import TextSplit
from reprise.errors import InputError
from reprise.runs.model_errors import explained
from reprise.runs.run_directory import RunDirectory
from reprise.runs.stages import RunBeforeTraining
from reprise.runs.train import train
from reprise.tools.preflight import preflight
from reprise.training.step import OptimizerStep

NET = (OWN, part("model", "Net"))
FACT = r"num_labels is 10, a fact of the data set \(`Data\.facts`\)$"


def unknown(split: str, *options: str, held: bool = True) -> tuple[str, ...]:
    own = (*NET, part("data", "load_unknown_label"), f"+data.split={split}", f"+data.held={held}")
    return (*own, "data.shift_probability=0.0", *options)


def data_of(split: Any, **facts: Any) -> Data:
    return Data({"train": split}, stack, Description("some", "some"), facts=facts)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 9, -100], None),
        ([], None),
        ([0, 10, -1, -100], "2 of 3 labels are outside of the classes 0 to 9, the first of them 10 in row 1 (from 0)"),
        ([-100, -1], "1 of 1 labels are outside of the classes 0 to 9, the first of them -1 in row 1 (from 0)"),
        ([[10]], None),  # several for a row: not the number of its class
        ([10.0], None),
    ],
)
def test_what_is_no_number_of_a_class_is_named_with_its_row(labels: list[Any], expected: str | None) -> None:
    found = outside_of_classes(torch.tensor(labels, dtype=None if labels else torch.long), 10)
    assert found == (None if expected is None else f"{expected}; -100 leaves a sample out")


def test_the_lesser_of_what_model_and_data_say_counts() -> None:
    data = data_of([], num_labels=10)
    assert class_labels(data, {"num_labels": 10}, {}) == ClassLabels(10, "a fact of the data set (`Data.facts`)")
    given = {"num_labels": 4}
    assert class_labels(data, given, given) == ClassLabels(4, "which the config gives as model.num_labels")
    assert class_labels(data_of([], num_labels=1), {}, {}) is None  # a regression
    assert class_labels(data_of([]), {}, {}) is None


def test_labels_that_are_held_are_checked_once_and_others_batch_by_batch() -> None:
    columns = {"inputs": torch.zeros(3, 2), "labels": torch.tensor([0, 1, 2])}
    labels, bad = ClassLabels(2, "a fact"), {"labels": torch.tensor([0, 2])}
    for split in (TensorSplit(columns), TextSplit([[1], [2], [3]], [0, 1, 2], 0)):
        with pytest.raises(InputError, match=r"the split 'train': 1 of 3 labels .* 2 in row 2 \(from 0\).* a fact$"):
            labels.check_held(data_of(split))
        assert labels.counter("train", data_of(split))(bad) == 2
    listed = data_of([{"labels": torch.tensor(2)}])
    labels.check_held(listed)
    with pytest.raises(InputError, match=r"data: a batch of the split 'train': 1 of 2 labels .* 2 in row 1"):
        labels.counter("train", listed)(bad)
    assert ClassLabels(3, "a fact").counter("train", listed)(bad) == count_labels(bad) == 2


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_label_outside_of_the_classes_is_one_message_and_leaves_nothing(
    split: str, held: bool, tmp_path: Path
) -> None:
    composed = compose(*TINY, *unknown(split, held=held), f"output_dir={tmp_path}")
    rows = {"train": 90, "val": 45, "test": 65}
    place = (
        rf"the split '{split}': 1 of \d+ labels .* 10 in row {rows[split]}"
        if held
        else rf"of the split '{split}': 1 of"
    )
    if split == "test" and not held:  # read when the model is trained: what has been made stays
        run = train(composed)
        assert "labels are outside of the classes" in json.dumps(RunDirectory(run).read_status())
        return
    with pytest.raises(InputError, match=rf"^data: .*{place}.*{FACT}"):
        train(composed)
    if held:
        with pytest.raises(InputError, match=place):
            preflight(composed.config)
    assert not list(tmp_path.rglob("config.json"))


def test_a_model_with_fewer_classes_than_the_data_has_labels_is_told_by_its_key(tmp_path: Path) -> None:
    options = (*NET, "+model.num_labels=4", f"output_dir={tmp_path}")
    with pytest.raises(InputError, match=r"num_labels is 4, which the config gives as model\.num_labels$"):
        train(compose(*TINY, *options))


def test_labels_that_a_count_of_the_users_own_leaves_out_are_none_of_our_business(
    train_tiny: Callable[..., Path],
) -> None:
    options = (OWN, part("data", "load_other_mask"), part("model", "OtherMask"), "~metrics.classification")
    assert run_facts(train_tiny(*options))


@pytest.mark.parametrize("split", ["train", "val"])
def test_where_nothing_says_how_many_classes_there_are_the_error_of_the_loss_is_explained(
    split: str, tmp_path: Path
) -> None:
    options = (*NET, part("data", "load_unnumbered"), f"+data.split={split}", "~metrics.classification")
    told = r"^data: label 10 is outside of the classes that the loss knows.*; compare them with num_l.*\n  in forward"
    with pytest.raises(InputError, match=told):
        train(compose(*TINY, *options, f"output_dir={tmp_path}"))
    assert not list(tmp_path.rglob("config.json"))


def test_an_index_that_an_embedding_does_not_have_is_one_message(tmp_path: Path) -> None:
    options = (OWN, part("model", "Embedding"), "~metrics.classification", f"output_dir={tmp_path}")
    with pytest.raises(InputError, match=r"^data, model: an index into an embedding is out of range.*\n  in forward"):
        train(compose(*TINY, *options))


def test_an_assertion_of_a_gpu_and_other_errors(tmp_path: Path) -> None:
    run = RunBeforeTraining(directory=RunDirectory(tmp_path), config={"model": {"num_labels": 3}}, seed=0)
    error = RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be …")
    found = explained(error, run)
    assert isinstance(found, InputError)
    assert "most likely a label" in str(found)
    assert "num_labels is 3, which the config gives as model.num_labels" in str(found)
    assert found.__cause__ is error
    for other in (IndexError("list index out of range"), ValueError("no"), KeyboardInterrupt()):
        assert explained(other, run) is other


def test_held_labels_cost_no_step_anything(train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, init = [], OptimizerStep.__init__

    def noting(self: OptimizerStep, *arguments: Any, **options: Any) -> None:
        seen.append(options["count_items"])
        init(self, *arguments, **options)

    monkeypatch.setattr(OptimizerStep, "__init__", noting)
    train_tiny("training.max_steps=1")
    assert seen == [count_labels]
