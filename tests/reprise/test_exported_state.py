"""All that a `state_dict` may hold is trained, saved, restored and exported: tensors of any layout, and what is not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import EVERYTHING, differences, run_facts
from odd_parts import OWN, Views, part
from tiny_runs import TINY, compose
from torch import nn

from reprise import from_pretrained
from reprise.data import Data, Description, stack
from reprise.errors import InputError, Interrupted
from reprise.files.content_hash import content_hash
from reprise.files.tagged_json import tagged, untagged
from reprise.runs.checkpoint import plain, read_checkpoint
from reprise.runs.export import export_model
from reprise.runs.run_directory import RunDirectory
from reprise.runs.saved_run import load_run
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.tools.preflight import preflight
from reprise.tools.reproduction.divergence import find_divergence
from reprise.training.loop import Loop

DATA = Data(splits={}, collate=stack, description=Description("points", "other"))
ODD_MODELS = ("WithExtraState", "Views")


@pytest.mark.parametrize("value", [True, None, 3, -0.5, "text", b"\x00\xff", (), [], {}, float("-inf"), (1, [2, (3,)])])
def test_plain_values_come_back_from_json_as_they_were(value: Any) -> None:
    found = untagged(tagged(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.bool, torch.int64])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_from_json_to_the_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.rand(shape).mul(3).to(dtype)
    found = untagged(tagged({"$odd": {1: tensor, ("a", 2): float("nan")}}))["$odd"]
    assert (found[1].shape, found[1].dtype) == (tensor.shape, dtype)
    assert content_hash(found) == content_hash({1: tensor, ("a", 2): float("nan")})


@pytest.mark.parametrize(
    "damaged", ['{"$tensor": ["nn", [1], ""]}', '{"$odd": 1}', '{"$tensor": 3}', '{"$items": [1]}']
)
def test_json_that_was_damaged_is_refused(damaged: str, tmp_path: Path) -> None:
    export_model(Views(), DATA, {"_target_": "odd_parts.Views"}, tmp_path / "export")
    (tmp_path / "export" / "extra_state.json").write_text(f'{{"a": {damaged}}}')
    with pytest.raises(InputError, match=r"extra_state\.json is damaged: "):
        from_pretrained(tmp_path / "export", ["odd_parts"])


@pytest.mark.parametrize("model", ODD_MODELS)
def test_an_odd_state_is_trained_resumed_exported_and_checked_to_the_bit(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*EVERYTHING, OWN, part("model", model), "run_id=run", "training.learning_rate=0.01")
    whole = train(compose(*overrides, f"output_dir={tmp_path / 'whole'}"))
    step = Loop._train_step

    def signalled(self: Loop, microbatches: list[Any]) -> None:
        if self.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, microbatches)

    composed = compose(*overrides, f"output_dir={tmp_path / 'stopped'}")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_step", signalled)
        with pytest.raises(Interrupted):
            train(composed)
    stopped = train(composed)
    assert differences(run_facts(stopped), run_facts(whole)) == []
    assert find_divergence(RunDirectory(whole), RunDirectory(stopped), None, True).are_equal
    failed = {check.title for check in check_run(RunDirectory(whole)) if check.verdict == "failed"}
    assert failed <= {"Code recorded", "Packages as locked"}, failed

    run = load_run(whole, ["odd_parts"])
    trained, loaded = run.model(), from_pretrained(whole / "export", ["odd_parts"])
    assert content_hash(plain(loaded.state_dict())) == content_hash(plain(trained.state_dict()))
    batch = run.example_batch()
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, trained(**batch).logits)


def test_a_difference_in_what_is_no_tensor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (*TINY, OWN, part("model", "WithExtraState"), "run_id=run", "training.max_epochs=1")
    first = RunDirectory(train(compose(*overrides, f"output_dir={tmp_path / 'first'}")))
    monkeypatch.setattr("odd_parts.Counting.get_extra_state", lambda self: {"seen": self.seen, "means": self.means})
    monkeypatch.setattr("odd_parts.Counting.set_extra_state", lambda self, state: self.__dict__.update(state))
    second = RunDirectory(train(compose(*overrides, f"output_dir={tmp_path / 'second'}")))
    (tensor,) = {d for c in find_divergence(first, second, None, True).checkpoints for d in c.tensors}
    assert tensor.name == "counting._extra_state"


def test_a_checkpoint_with_an_extra_state_loads_with_weights_only(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(OWN, part("model", "WithExtraState"), "training.max_epochs=1")
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model_state_dict"]
    assert state["counting._extra_state"]["seen"] == len(state["counting._extra_state"]["means"]) == 6
    assert read_checkpoint(run / "checkpoints" / "best.pt")["model_state_dict"].keys() == state.keys()


def test_preflight_goes_through_with_an_extra_state() -> None:
    assert preflight(compose(*TINY, OWN, part("model", "WithExtraState")).config).estimate.state > 0


def test_views_of_one_tensor_are_such_in_the_loaded_model_too(tmp_path: Path) -> None:
    model = Views()
    export_model(model, DATA, {"_target_": "odd_parts.Views"}, tmp_path / "export")
    loaded: Any = from_pretrained(tmp_path / "export", ["odd_parts"])
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.scale.untyped_storage().data_ptr() == loaded.shift.untyped_storage().data_ptr()
    assert loaded.again is loaded.scale


def test_an_ordinary_model_has_no_file_for_an_extra_state(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    export_model(model, DATA, {"_target_": "torch.nn.Sequential"}, tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["config.json", "model.safetensors"]
