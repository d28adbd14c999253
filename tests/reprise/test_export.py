import json
import os
import textwrap

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from reprise import from_pretrained
from reprise.config.targets import build
from reprise.data import Data, Description, stack
from reprise.errors import InputError
from reprise.runs.export import export_model

VIT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "id2label": {0: "cat", 1: "dog"},
}
DATA = Data(splits={}, collate=stack, description=Description("pets", "image-classification"))

PLAIN_MODULE = """
    from torch import nn
    from reprise.models import ModelOutput

    class Net(nn.Module):
        def __init__(self, hidden_size: int, num_labels: int, label_names: list[str] | None = None) -> None:
            super().__init__()
            self.first = nn.Linear(hidden_size, hidden_size, bias=False)
            self.norm = nn.BatchNorm1d(hidden_size)
            self.second = nn.Linear(hidden_size, hidden_size, bias=False)
            self.second.weight = self.first.weight
            self.dropout = nn.Dropout(0.5)
            self.head = nn.Linear(hidden_size, num_labels)

        def forward(self, inputs, labels=None):
            return ModelOutput(self.head(self.dropout(self.second(self.norm(self.first(inputs))))))
"""
SPEC = {"_target_": "someones_package.nets.Net", "hidden_size": 4, "num_labels": 3, "label_names": ["a", "b", "c"]}


@pytest.fixture
def plain_module(tmp_path, monkeypatch):
    """Return a module of a package outside `src/`, some steps away from its first weights."""
    package = tmp_path / "packages" / "someones_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(textwrap.dedent(PLAIN_MODULE))
    monkeypatch.syspath_prepend(str(package.parent))
    model = build(SPEC, "model", ["someones_package"])
    model.train()
    for _ in range(3):
        model(torch.randn(5, 4))  # moves the running statistics
    return model


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**VIT))


def test_an_exported_vit_gives_the_same_logits(tmp_path, vit):
    export_model(vit, DATA, {}, tmp_path / "export")
    loaded = from_pretrained(tmp_path / "export")
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = vit.eval()(pixel_values=images).logits
        assert not loaded.training
        assert torch.equal(loaded(pixel_values=images).logits, expected)
        again = ViTForImageClassification.from_pretrained(tmp_path / "export", local_files_only=True)
        assert torch.equal(again.eval()(pixel_values=images).logits, expected)
    assert loaded.config.id2label == {0: "cat", 1: "dog"}


def test_an_exported_plain_module_gives_the_same_logits(tmp_path, plain_module):
    export_model(plain_module, DATA, SPEC, tmp_path / "export")
    loaded = from_pretrained(tmp_path / "export", trusted_packages=["someones_package"])
    inputs = torch.randn(3, 4)
    with torch.no_grad():
        assert not loaded.training
        assert torch.equal(loaded(inputs).logits, plain_module.eval()(inputs).logits)
    assert loaded.second.weight is loaded.first.weight
    assert json.loads((tmp_path / "export" / "config.json").read_text()) == SPEC


def test_a_module_of_a_package_that_is_not_trusted_is_not_imported(tmp_path, plain_module):
    export_model(plain_module, DATA, SPEC, tmp_path / "export")
    with pytest.raises(InputError, match="no trusted package"):
        from_pretrained(tmp_path / "export")


def test_an_export_can_be_read_by_others(tmp_path, vit):
    export_model(vit, DATA, {}, tmp_path / "export")
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o755


class Processor:
    def save_pretrained(self, directory):
        (directory / "tokenizer.json").write_text("{}")


class BrokenProcessor:
    def save_pretrained(self, directory):
        raise OSError("disk full")


def with_processor(processor):
    return Data(splits={}, collate=stack, description=DATA.description, processor=processor)


def test_the_processor_of_the_data_is_exported_too(tmp_path, vit):
    export_model(vit, with_processor(Processor()), {}, tmp_path / "export")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(os.listdir(tmp_path / "export"))


def test_a_second_export_replaces_the_first_and_one_that_fails_leaves_it(tmp_path, vit):
    export_model(vit, with_processor(Processor()), {}, tmp_path / "export")
    nn.init.zeros_(vit.classifier.weight)
    with pytest.raises(OSError, match="disk full"):
        export_model(vit, with_processor(BrokenProcessor()), {}, tmp_path / "export")
    assert os.listdir(tmp_path) == ["export"]
    assert from_pretrained(tmp_path / "export").classifier.weight.any()
    export_model(vit, DATA, {}, tmp_path / "export")
    assert os.listdir(tmp_path) == ["export"]
    assert not from_pretrained(tmp_path / "export").classifier.weight.any()
    assert "tokenizer.json" not in os.listdir(tmp_path / "export")


def test_the_weights_are_the_same_bytes_whenever_they_are_exported(tmp_path, vit):
    for name in ("first", "second"):
        export_model(vit, DATA, {}, tmp_path / name)
    first, second = (
        sorted((p.name, p.read_bytes()) for p in (tmp_path / name).iterdir()) for name in ("first", "second")
    )
    assert first == second


def test_a_directory_without_an_export_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not an export: it has no config\.json"):
        from_pretrained(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"experiment_name": "base"}')
    with pytest.raises(InputError, match=r"is not an export: its config\.json names no model"):
        from_pretrained(tmp_path)
