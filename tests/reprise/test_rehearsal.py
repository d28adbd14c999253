"""What would go wrong after training is said before it: one message that names the key, and nothing is left on disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_parts import OWN, part
from tiny_runs import TINY, compose

from reprise import from_pretrained
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.randomness import capture_rng_state, set_seed
from reprise.runs.building import build_task
from reprise.runs.checkpoint import plain, read_checkpoint
from reprise.runs.rehearsal import rehearse
from reprise.runs.train import train
from reprise.tools.preflight import preflight
from reprise.training.loop import Loop

DATA, MODEL = "data", "model"
REFUSED = {
    part(DATA, "load_few_names"): r"^data\._target_: expected a name for each of the 10 classes .*got 2 in the fact",
    part(DATA, "load_mapped_names"): r"^data\._target_: expected the fact `label_names` to be a list, in the order",
    part(DATA, "load_few_labels"): r"^data\._target_: expected a name for each of the 10 classes .*got 2 in the desc",
    part(DATA, "load_odd_description"): r"^data\._target_: its description\.caveats\[0\]\.leaks: .*, got set$",
    part(DATA, "load_empty_test"): r"^data: the split 'test' is empty; leave it out",
    part(DATA, "load_bare_processor"): r"^data\._target_: the processor .* has no `save_pretrained`",
    part(MODEL, "Unreached"): r"^model\._target_: 'spare.weight', 'spare.bias': no shape",
    part(MODEL, "WithBackbone"): r"^model\._target_: a checkpoint of it could not be loaded.*Missing key.*backbone\.w",
    part(MODEL, "WithRandomBackbone"): r"^model\._target_: its state_dict leaves out 'backbone\.weight', 'backbone\.b",
    part(MODEL, "Growing"): r"^model\._target_: a forward pass changes which entries its state has, or .*'table'",
    part(MODEL, "Resizing"): r"^model\._target_: a forward pass changes which .* sizes, 'low', so that a freshly built",
    part(MODEL, "Unsaved"): r"^model\._target_: its state cannot be saved: _extra_state\.model: .*, not object$",
    part(MODEL, "OneWay"): r"^model\._target_: a checkpoint of it could not be loaded.*Unexpected key.*_extra_state",
    part(MODEL, "Rounded"): r"^model\._target_: a checkpoint of it would not restore 'head\.weight', 'head\.bias'",
    part(MODEL, "Sparse"): r"^model\._target_: its state cannot be saved: graph: sparse tensors have no form",
    part(MODEL, "Tuples"): r"^model\._target_: expected Tuples\.forward to return an object with .*; got tuple$",
    part("+metrics.own", "SameName"): r"^metrics\.own: 'accuracy' is computed by metrics\.classification already",
    part("+metrics.own", "OtherLoss"): r"^metrics\.own: 'loss' is computed by the run itself already",
    part("+metrics.own", "Pairs"): r"^metrics\.own: it fails on a batch: AttributeError: 'list'",
    part("+metrics.own", "OddDetails"): r"^metrics\.own: `details` would .* details\.by class\[0\]\.seen: .*, got set$",
    part("+metrics.own", "BrokenPredictions"): r"^metrics\.own: `predictions` would fail .*AttributeError",
}


@pytest.mark.parametrize("odd", REFUSED)
def test_what_would_fail_after_training_is_one_message_before_it_and_leaves_nothing(odd: str, tmp_path: Path) -> None:
    composed = compose(*TINY, f"output_dir={tmp_path / 'outputs'}", OWN, odd)
    with pytest.raises(InputError, match=REFUSED[odd]):
        train(composed)
    with pytest.raises(InputError, match=REFUSED[odd]):
        preflight(composed.config)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_the_model_is_given_and_the_export_cannot_hold_is_named(tmp_path: Path) -> None:
    odd = (OWN, part(DATA, "load_weights"), part(MODEL, "Weighted"))
    message = (
        r"^data\._target_: the fact `class_weights` is an argument of the model.* cannot hold a Tensor; give plain"
    )
    with pytest.raises(InputError, match=message):
        train(compose(*TINY, f"output_dir={tmp_path / 'outputs'}", *odd))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_the_class_of_a_model_of_transformers_does_not_have_is_named(tmp_path: Path) -> None:
    odd = ("experiment=text_classification", OWN, part(MODEL, "build_bert_with_more"))
    message = r"^model\._target_: .*BertForSequenceClassification, which has no 'more\.weight', 'more\.bias', so that"
    with pytest.raises(InputError, match=message):
        train(compose(*odd, f"output_dir={tmp_path / 'outputs'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_found_on_resume_leaves_checkpoints_and_results_as_they_were(
    train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_tiny(OWN, part("+metrics.own", "Mean"), "run_id=one")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.parent != run}
    monkeypatch.setattr("odd_parts.Mean.details", lambda self: {"seen": {1, 2}})
    from reprise.cli.resuming import resume

    with pytest.raises(InputError, match=r"^metrics\.own: `details`"):
        resume(run, ["training.max_epochs=3"], ["odd_parts"])
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.parent != run}
    assert {path for path in before if before[path] != after[path]} <= {run / "logs" / "train.log"}


def test_names_and_numbers_of_numpy_become_plain_ones(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(OWN, part(DATA, "load_numbered"), "training.max_epochs=1")
    names = [str(number) for number in range(10)]
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    assert json.loads((run / "provenance.json").read_text())["data"]["labels"] == names
    details = json.loads((run / "results" / "metrics.json").read_text())["details"]["classification"]
    assert details["confusion_matrix"]["labels"] == names
    assert from_pretrained(run / "export", ["tiny"]) is not None


def test_a_frozen_part_that_no_seed_changes_may_be_left_out(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(OWN, part(MODEL, "WithFixedBackbone"), "training.max_epochs=1")
    state = read_checkpoint(run / "checkpoints" / "best.pt")["model_state_dict"]
    assert sorted(state) == ["head.bias", "head.weight"]
    assert torch.equal(from_pretrained(run / "export", ["odd_parts"]).backbone.weight, torch.eye(64))


def test_values_of_numpy_and_torch_in_results_are_plain_in_the_files(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(OWN, part("+metrics.own", "Mean"), "training.max_epochs=1")
    results = json.loads((run / "results" / "metrics.json").read_text())
    details = results["details"]["own"]
    assert {key: details[key] for key in ("array", "tensor", "undefined", "by class")} == {
        "array": [0, 1, 2],
        "tensor": [0.5],
        "undefined": None,
        "by class": {"1": [1, 2]},
    }
    assert results["baselines"]["nothing"] == {"mean": 0.5}
    assert json.loads((run / "results" / "predictions.json").read_text())[-1] == {"index": 1}


def test_a_metric_that_one_batch_does_not_define_is_let_through_with_a_word(
    train_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train_tiny(OWN, part("+metrics.own", "UndefinedDetails"), "training.max_epochs=1")
    assert "metrics.own: of one batch, `details` raises ZeroDivisionError: too few samples" in caplog.text


@pytest.mark.parametrize("model", ["Net", "WithExtraState", "Views"])
def test_the_rehearsal_leaves_no_trace(model: str) -> None:
    set_seed(3)
    task = build_task(compose(*TINY, OWN, part(MODEL, model)).config, ["odd_parts"])
    before = content_hash(plain([capture_rng_state(), task.model.state_dict()]))
    addresses = [parameter.data_ptr() for parameter in task.model.parameters()]
    found = rehearse(task)
    assert found == {"input_shapes": {"pixel_values": [1, 8, 8]}, "logits_shape": [10]}
    assert content_hash(plain([capture_rng_state(), task.model.state_dict()])) == before
    assert [parameter.data_ptr() for parameter in task.model.parameters()] == addresses
    assert all(parameter.grad is None and parameter.requires_grad for parameter in task.model.parameters())


def test_the_rehearsal_comes_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: Any) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Loop, "_train_step", step)
    with pytest.raises(InputError, match=re.escape("model._target_")):
        train(compose(*TINY, f"output_dir={tmp_path}", OWN, part(MODEL, "OneWay")))
