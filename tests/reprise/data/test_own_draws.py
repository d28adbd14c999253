"""A split that draws from a generator of its own is noticed at the start, and the generator stays where it was."""

import logging
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY, compose

from reprise.data import TensorSplit, stack
from reprise.files.content_hash import content_hash
from reprise.randomness import capture_rng_state
from reprise.runs.train import train
from reprise.training.loading import Batches, Fetcher
from reprise.training.own_draws import draws_for_itself

NUM_SAMPLES = 112
FIRST = np.array([3, 1])
MODULE_GENERATOR = np.random.default_rng(0)


class OwnGenerator:
    """A split that keeps a generator; `draw` takes one number of it."""

    def __init__(self, generator: Any, draw: Any) -> None:
        self.augmentations = [{"noise": (generator, draw)}]

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ((generator, draw),) = self.augmentations[0].values()
        return {"values": torch.tensor([index, float(draw(generator))], dtype=torch.float64)}


class FromGlobals:
    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"values": torch.tensor([random.random(), np.random.rand(), float(torch.rand(())), float("nan")])}


class FromDraws:
    def __len__(self) -> int:
        return NUM_SAMPLES

    def get_sample(self, index: int, draws: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"values": torch.tensor([index, draws.random()], dtype=torch.float64)}


class FromModule(FromGlobals):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"values": torch.tensor(MODULE_GENERATOR.random())}


class OneMemory(FromGlobals):
    """Returns the same tensor each time, with another content."""

    values, generator = torch.zeros(()), random.Random(0)

    def __init__(self) -> None:
        self.held = self.generator

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"values": self.values.fill_(self.held.random())}


def augmenting_split() -> TensorSplit:
    generator = torch.Generator().manual_seed(0)

    def augment(batch: dict[str, torch.Tensor], draws: Any) -> dict[str, torch.Tensor]:
        return {"values": batch["values"] + torch.rand(len(batch["values"]), generator=generator)}

    return TensorSplit({"values": torch.zeros(NUM_SAMPLES)}, augment=augment)


OWN = {
    "numpy.random.Generator": lambda: OwnGenerator(np.random.default_rng(0), lambda own: own.random()),
    "numpy.random.RandomState": lambda: OwnGenerator(np.random.RandomState(0), lambda own: own.random()),
    "random.Random": lambda: OwnGenerator(random.Random(0), lambda own: own.random()),
    "torch.Generator": lambda: OwnGenerator(torch.Generator(), lambda own: torch.rand((), generator=own)),
    "in a partial": lambda: OwnGenerator(None, partial(lambda own, _: own.random(), random.Random(0))),
    "in a closure": augmenting_split,
    "in the module": FromModule,
    "in the same memory": OneMemory,
}
ADDRESSED = {
    "global generators": FromGlobals,
    "draws": FromDraws,
    "tensors": lambda: TensorSplit({"values": torch.ones(NUM_SAMPLES)}),
}


def fetcher(split: Any) -> Fetcher:
    return Fetcher(split, stack, 0, "train")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", OWN)
def test_own_draws_are_noticed_and_go_on_as_if_nothing_had_been_read(kind: str, num_workers: int) -> None:
    def drawn(split: Any) -> str:
        return content_hash(fetcher(split)[0, FIRST])

    split, state = OWN[kind](), content_hash(capture_rng_state())
    assert draws_for_itself(fetcher(split), FIRST, num_workers)
    assert content_hash(capture_rng_state()) == state
    after = drawn(split)
    global MODULE_GENERATOR
    MODULE_GENERATOR, OneMemory.generator = np.random.default_rng(0), random.Random(0)
    assert drawn(OWN[kind]()) == after
    MODULE_GENERATOR, OneMemory.generator = np.random.default_rng(0), random.Random(0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ADDRESSED)
def test_draws_at_an_address_are_none_of_its_own(kind: str, num_workers: int) -> None:
    state = content_hash(capture_rng_state())
    assert not draws_for_itself(fetcher(ADDRESSED[kind]()), FIRST, num_workers)
    assert content_hash(capture_rng_state()) == state


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_number_is_drawn_twice_in_loader_workers_from_draws_but_from_an_own_generator(num_workers: int) -> None:
    def num_distinct(split: Any) -> int:
        batches = Batches(split, stack, batch_size=7, seed=0, purpose="train", num_workers=num_workers)
        return len({float(row[1]) for batch in batches for row in batch["values"]})

    assert num_distinct(FromDraws()) == NUM_SAMPLES
    assert num_distinct(OWN["numpy.random.Generator"]()) == NUM_SAMPLES // max(1, num_workers)


def test_a_sample_that_is_opened_at_its_first_reading_is_not_opened_here_where_workers_read() -> None:
    class Opened(FromGlobals):
        file = None

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            self.file = "open"  # type: ignore[assignment]
            return super().__getitem__(index)

    split = Opened()
    assert not draws_for_itself(fetcher(split), FIRST, 2)
    assert split.file is None


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_warns_once_and_names_class_and_way_out(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import tiny.images

    own = np.random.default_rng(0)

    def shift(images: torch.Tensor, draws: Any, probability: float) -> Any:
        return images + own.random()

    monkeypatch.setattr(tiny.images, "_shift", shift)
    overrides = (*TINY, f"output_dir={tmp_path}", "training.max_steps=1", f"data.num_workers={num_workers}")
    with caplog.at_level(logging.WARNING):
        run = train(compose(*overrides))
    (message,) = [record.getMessage() for record in caplog.records if "of its own" in record.getMessage()]
    assert "reprise.data.TensorSplit" in message
    assert "get_sample(self, index, draws)" in message
    assert "of its own" in (run / "logs" / "train.log").read_text()
