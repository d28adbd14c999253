"""Lazy layers get their shapes from a batch of training, and their values from the address of their names."""

from pathlib import Path

import pytest
import torch
from resumed_runs import completed, failing, resumed, stopped
from tiny.lazy import Lazy
from tiny_runs import TINY, compose
from torch import Tensor, nn

import reprise.models.lazy_parameters
from reprise import from_pretrained, load_run
from reprise.files.content_hash import content_hash
from reprise.files.json_file import read_object
from reprise.models import ModelOutput
from reprise.models.lazy_parameters import materialize
from reprise.randomness import capture_rng_state, set_seed
from reprise.randomness.addresses import model_seed, seed_globals
from reprise.runs.building import build_task
from reprise.runs.checkpoint import read_checkpoint
from reprise.tools.preflight import preflight
from reprise.training.processes import ALONE, Processes

LAZY = ("model._target_=tiny.lazy.Lazy",)
OTHER_BATCHES = ("training.batch_size=7", "data.shift_probability=0.9", "training.gradient_accumulation=2")


def initial(*overrides: str, processes: Processes = ALONE) -> dict[str, Tensor]:
    return build_task(compose(*TINY, *LAZY, *overrides).config, [], processes).model.state_dict()


@pytest.mark.parametrize(
    ("overrides", "processes"),
    [(OTHER_BATCHES, ALONE), ((), Processes(1, 2, 1)), (("seed=7",), ALONE)],
    ids=["other batches", "another process", "another seed"],
)
def test_values_depend_on_the_seed_alone(overrides: tuple[str, ...], processes: Processes) -> None:
    is_same = content_hash(initial(*overrides, processes=processes)) == content_hash(initial())
    assert is_same is ("seed=7" not in overrides)


def test_without_the_address_they_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reprise.models.lazy_parameters, "seed_globals", lambda seed: None)
    assert content_hash(initial(*OTHER_BATCHES)) != content_hash(initial())


def batch(size: int = 3) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(size, 1, 8, 8), "labels": torch.arange(size)}


def test_a_layer_has_the_values_that_one_of_that_size_has_at_its_address() -> None:
    model, built = Lazy(num_labels=10), dict[str, nn.Module]()
    materialize(model, batch, 5)
    for name, make in {
        "features.0": lambda: nn.Conv2d(1, 4, 3),
        "head": lambda: nn.Linear(36, 10),
        "beside.0": lambda: nn.Linear(36, 6),
        "beside.3": lambda: nn.Linear(6, 10),
    }.items():
        seed_globals(model_seed(5, name))
        built[name] = make()
    for name, layer in built.items():
        found = model.get_submodule(name)
        assert type(found) is type(layer)
        assert content_hash(found.state_dict()) == content_hash(layer.state_dict())


def test_nothing_else_of_the_pass_stays() -> None:
    set_seed(3)
    model, first = Lazy(num_labels=10), batch()
    model.features[3].eval()
    expected = Lazy(num_labels=10)
    modes, before = [module.training for module in model.modules()], content_hash(capture_rng_state())
    materialize(model, lambda: first, 5)
    assert content_hash(capture_rng_state()) == before
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    for norm in (model.features[1], model.beside[1]):
        assert content_hash(norm.state_dict()) == content_hash(type(norm)(norm.num_features).state_dict())
    assert content_hash(model.observer.state_dict()) == content_hash(expected.observer.state_dict())
    assert content_hash(model.features[3].state_dict()) == content_hash(nn.BatchNorm2d(4).state_dict())


def test_a_layer_that_is_used_twice_keeps_its_first_state() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LazyBatchNorm1d()

        def forward(self, inputs: Tensor) -> ModelOutput:
            return ModelOutput(self.norm(self.norm(inputs)) if self.training else inputs)

    model = Twice()
    materialize(model, lambda: {"inputs": torch.randn(4, 3)}, 0)
    assert content_hash(model.norm.state_dict()) == content_hash(nn.BatchNorm1d(3).state_dict())


def test_a_model_without_lazy_layers_reads_no_batch() -> None:
    def refuse() -> dict[str, Tensor]:
        raise AssertionError

    materialize(nn.Linear(2, 2), refuse, 0)


def test_a_run_is_described_saved_resumed_and_loaded_again(tmp_path: Path) -> None:
    whole = completed(tmp_path / "whole", *LAZY)
    provenance = read_object(whole.provenance)["model"]
    built = build_task(compose(*TINY, *LAZY).config, []).model
    assert provenance["num_parameters"] == sum(parameter.numel() for parameter in built.parameters())
    assert provenance["initial_sha256"] == content_hash(built.state_dict())
    again = resumed(stopped(tmp_path / "again", 7, *LAZY))
    assert again.predictions.read_bytes() == whole.predictions.read_bytes()
    first, second = (read_checkpoint(run.last_checkpoint) for run in (whole, again))
    for part in ("model_state_dict", "optimizer_state_dict"):
        assert content_hash(first[part]) == content_hash(second[part])
    assert failing(again) == []

    run = load_run(whole.path)
    assert run.evaluate()["metrics"] == read_object(whole.metrics)["metrics"]
    examples = run.example_batch()
    with torch.no_grad():
        expected = run.model()(**examples).logits
        assert torch.equal(from_pretrained(whole.export)(**examples).logits, expected)
    exported = from_pretrained(whole.export)
    assert content_hash(dict(exported.state_dict())) == content_hash(dict(run.model().state_dict()))


def test_preflight_takes_a_model_with_lazy_layers(tmp_path: Path) -> None:
    findings = preflight(compose(*TINY, *LAZY, f"output_dir={tmp_path / 'outputs'}").config)
    assert findings.num_parameters == sum(tensor.numel() for name, tensor in initial().items() if is_weight(name))
    assert list(tmp_path.iterdir()) == []


def is_weight(name: str) -> bool:
    return name.endswith((".weight", ".bias"))
