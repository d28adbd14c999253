"""State that training changes and no checkpoint holds is warned of, once; what a checkpoint holds is not."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from resumed_runs import completed, resumed, stopped
from tiny.forgetful import Forgetful, SavesItself
from tiny_runs import TINY, compose
from torch import Tensor, nn

from reprise.files.content_hash import content_hash
from reprise.models import evaluating
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.tools.preflight import preflight
from reprise.training.unsaved_state import UnsavedState

TENSOR, GENERATOR = "scale.seen", "tiny.forgetful.Scale (scale)"
UNSAVED = {"buffer": TENSOR, "attribute": TENSOR, "torch": GENERATOR, "numpy": GENERATOR, "module": GENERATOR}
STEP = 8  # of 12, past the first evaluation


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "reprise.training.unsaved_state"]
    caplog.clear()
    return found


def after_an_epoch(model: nn.Module, inputs: Tensor | None = None) -> None:
    run: Any = SimpleNamespace(model=model)
    observer = UnsavedState()
    for _ in range(2):
        observer.on_epoch_start(run)
        model.train()(torch.ones(3, 64) if inputs is None else inputs)
        with evaluating(model):
            model(torch.ones(3, 64))
        observer.on_eval_end(run, {})
        observer.on_epoch_end(run)


@pytest.mark.parametrize("way", UNSAVED)
def test_state_that_no_checkpoint_holds_is_named_once(way: str, caplog: pytest.LogCaptureFixture) -> None:
    after_an_epoch(Forgetful(way=way, num_labels=3))
    (message,) = warned(caplog)
    assert UNSAVED[way] in message
    assert "get_extra_state" in message


@pytest.mark.parametrize("way", ["persistent", "global", "torch, saved by itself"])
def test_state_that_a_checkpoint_holds_is_not_named(way: str, caplog: pytest.LogCaptureFixture) -> None:
    kind = SavesItself if "saved" in way else Forgetful
    after_an_epoch(kind(way=way.split(",")[0], num_labels=3))
    assert warned(caplog) == []


def test_a_table_that_grows_and_a_buffer_that_stays_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(1), persistent=False)
            self.register_buffer("mask", torch.ones(3), persistent=False)
            self.random = random.Random(0)

        def forward(self, inputs: Tensor) -> Tensor:
            self.table = torch.arange(1.0 + len(inputs))
            self.made = inputs.sum()
            return inputs

    after_an_epoch(Tables(), torch.ones(5, 64))
    assert warned(caplog) == []


def test_preflight_names_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    overrides = ("model._target_=tiny.forgetful.Forgetful", "+model.way=buffer", f"output_dir={tmp_path / 'outputs'}")
    preflight(compose(*TINY, *overrides).config)
    (message,) = warned(caplog)
    assert TENSOR in message


def weights(run: RunDirectory) -> str:
    return content_hash(read_checkpoint(run.last_checkpoint)["model_state_dict"])


@pytest.mark.parametrize(("way", "kind"), [("buffer", "Forgetful"), ("torch", "Forgetful"), ("torch", "SavesItself")])
def test_a_resumed_run_has_other_bits_where_it_was_warned_of_and_the_same_where_it_was_saved(
    way: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = (f"model._target_=tiny.forgetful.{kind}", f"+model.way={way}")
    whole = completed(tmp_path / "whole", *overrides)
    is_warned = len(warned(caplog))
    assert is_warned == (kind == "Forgetful")
    again = resumed(stopped(tmp_path / "again", STEP, *overrides))
    assert (weights(again) != weights(whole)) is bool(is_warned)
