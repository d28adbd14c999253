"""What tests share: configs as people compose them, and runs of seconds."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from reprise.config.composing import Composed, compose_and_validate
from reprise.train import train

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"

pytest_plugins = ["traced_runs"]  # its fixtures

# A run of a second: two epochs of the real data with a smaller model, dropout and augmentation on.
TINY = (
    "experiment=base",
    "tracker=none",
    "data.train_split=0.1",
    "data.val_split=0.05",
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.intermediate_size=16",
    "model.dropout=0.1",
    "training.max_epochs=2",
    "training.warmup_steps=2",
    "training.batch_size=32",
)


def compose(*overrides: str) -> Composed:
    """Return the config that these overrides make."""
    return compose_and_validate(CONFIGS, overrides)


@pytest.fixture
def train_tiny(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that trains a tiny run with more overrides, and returns its directory."""

    def run(*overrides: str) -> Path:
        return train(compose(*TINY, f"output_dir={tmp_path}", *overrides))

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of one tiny run that is complete; tests only read it."""
    return train(compose(*TINY, f"output_dir={tmp_path_factory.mktemp('finished')}", "run_id=finished"))


@pytest.fixture(autouse=True)
def _leave_the_process_as_it_was() -> Iterator[None]:
    num_threads, handlers = torch.get_num_threads(), list(logging.getLogger().handlers)
    yield
    torch.set_num_threads(num_threads)
    torch.set_deterministic_debug_mode("default")
    assert logging.getLogger().handlers == handlers
