"""What tests share: configs as people compose them, and runs of seconds."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY, compose
from traced_runs import again, points, reference  # noqa: F401 - fixtures

from reprise.runs.train import train


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
