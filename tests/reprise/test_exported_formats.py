"""A model in another format computes what the model computes, for any number of samples and texts of any length."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TINY, compose
from torch import Tensor, nn

from reprise.data import Data, Description, TensorSplit, stack
from reprise.errors import ExportFailed, InputError
from reprise.models import ModelOutput
from reprise.runs.building import build_task
from reprise.runs.export_formats import write_formats
from reprise.runs.train import train
from reprise.tools.further_formats import export_run

BERT = (
    "experiment=text_classification",
    "data.max_length=20",
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return ModelOutput(self.head(self.dropout(inputs)))


class Stubborn(Net):
    """Cannot be traced: what it does depends on numbers."""

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return ModelOutput(self.head(inputs if float(inputs.sum()) > 0 else -inputs))


def data(num_samples: int = 9) -> Data:
    torch.manual_seed(0)
    split = TensorSplit({"inputs": torch.randn(num_samples, 4), "labels": torch.zeros(num_samples, dtype=torch.long)})
    return Data(splits={"train": split, "val": split}, collate=stack, description=Description("points", "other"))


def test_a_plain_module_is_written_in_both_formats_with_the_differences_beside_them(tmp_path: Path) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model, inputs = Net(), torch.randn(6, 4)
    found = write_formats(model, data(), tmp_path, ["model.onnx", "model.pt2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported.json", "model.onnx", "model.pt2"]
    record = json.loads((tmp_path / "exported.json").read_text())
    assert {name: entry["largest_difference"] for name, entry in record.items()} == found
    assert all(difference < 1e-6 for difference in found.values())
    assert record["model.pt2"]["inputs"] == {"inputs": ["any", 4]}
    with torch.no_grad():
        expected = model.eval()(inputs).logits
        assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(inputs=inputs), expected)
    evaluator = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx"))
    assert evaluator.output_names == ["logits"]
    (logits,) = evaluator.run(None, {"inputs": inputs.numpy()})
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-6)


def test_texts_may_be_of_any_length_and_number(tmp_path: Path) -> None:
    task = build_task(compose(*BERT).config, [])
    assert write_formats(task.model, task.data, tmp_path, ["model.pt2"]) == {"model.pt2": 0.0}
    record = json.loads((tmp_path / "exported.json").read_text())
    assert record["model.pt2"]["inputs"] == {"input_ids": ["any", "any"], "attention_mask": ["any", "any"]}
    program = torch.export.load(tmp_path / "model.pt2").module()
    for num_texts, length in ((1, 3), (3, 20), (7, 9)):
        ids = torch.randint(4, 10, (num_texts, length))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            assert torch.allclose(program(**batch), task.model(**batch).logits, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("experiment", [BERT, ("experiment=language_model",), ("experiment=base",)])
def test_every_kind_of_model_is_written_as_onnx(tmp_path: Path, experiment: tuple[str, ...]) -> None:
    task = build_task(compose(*experiment).config, [])
    assert write_formats(task.model, task.data, tmp_path, ["model.onnx"])["model.onnx"] < 1e-5


def test_a_model_that_cannot_be_written_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match=r"model\.pt2: torch\.export: "):
        write_formats(Stubborn(), data(), tmp_path, ["model.pt2"])
    assert [path.name for path in tmp_path.iterdir()] == ["exported.json"]
    assert "torch.export" in json.loads((tmp_path / "exported.json").read_text())["model.pt2"]["error"]


def test_a_run_writes_what_its_config_asks_for_and_a_finished_one_later(
    train_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_tiny("export.torch_export=true", "training.max_epochs=1")
    export = run / "export"
    assert (export / "model.pt2").exists()
    (export / "model.pt2").unlink()
    export_run(run, torch_export=True)
    assert capsys.readouterr().out == f"{export / 'model.pt2'}: logits differ from the model's by 0 at most\n"
    assert (export / "model.pt2").exists()
    with pytest.raises(InputError, match="name a format: --onnx, --torch-export or both"):
        export_run(run)


def test_a_run_is_not_lost_to_a_format_that_cannot_hold_its_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_program(*_: Any, **__: Any) -> None:
        raise RuntimeError("no program today")

    monkeypatch.setattr(torch.export, "export", no_program)
    overrides = (*TINY, "export.torch_export=true", "training.max_epochs=1", f"output_dir={tmp_path}")
    run = train(compose(*overrides))
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    assert "model.pt2: torch.export: RuntimeError: no program today; scripts/export.py tries again" in caplog.text
    from reprise.tools.preflight import preflight

    with pytest.raises(InputError, match=r"export: model\.pt2 cannot be written: .*no program today"):
        preflight(compose(*overrides).config)


def test_a_package_that_is_missing_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "onnxscript" else find_spec(name, *more)
    )
    with pytest.raises(InputError, match=r"export\.onnx: needs onnxscript, which is not installed; .*\[onnx\]"):
        train(compose(*TINY, "export.onnx=true", f"output_dir={tmp_path / 'none'}"))
    assert not (tmp_path / "none").exists()
