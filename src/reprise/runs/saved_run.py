"""Opens a run for notebooks and scripts: config, metrics as arrays, the model with its best weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reprise.config import ExperimentConfig
from reprise.data import Batch
from reprise.errors import InputError
from reprise.files.json_file import read_object
from reprise.runs.building import Task, build_task
from reprise.runs.checkpoint import load_checkpoint
from reprise.runs.metrics_log import read_metrics
from reprise.runs.results import score_checkpoint
from reprise.runs.run_directory import RunDirectory, open_run


@dataclass(frozen=True)
class Series:
    """The values of one metric over a run, equally long arrays."""

    epoch: NDArray[np.int64]
    step: NDArray[np.int64]
    value: NDArray[np.float64]


class SavedRun:
    """A run as it lies on disk. What needs data or model is built when it is first asked for."""

    def __init__(self, directory: RunDirectory, trusted_packages: Sequence[str]) -> None:
        self.directory = directory
        self.config = ExperimentConfig.load(directory.config)
        self._trusted_packages = trusted_packages
        self._task: Task | None = None

    @property
    def metrics(self) -> dict[str, Series]:
        """Return every logged metric by name."""
        rows: dict[str, list[tuple[int, int, float]]] = {}
        for entry in read_metrics(self.directory.metrics_log):
            for name, value in entry.metrics.items():
                rows.setdefault(name, []).append((entry.epoch, entry.step, value))
        return {
            name: Series(*(np.array(column) for column in zip(*values, strict=True))) for name, values in rows.items()
        }

    @property
    def results(self) -> dict[str, Any] | None:
        """Return the content of `results/metrics.json`, None if the run has not come so far."""
        return read_object(self.directory.metrics) or None

    @property
    def task(self) -> Task:
        """Return data and model as the run built them, the model with fresh weights until `model` was called."""
        if self._task is None:
            if self.config.num_threads is not None:
                torch.set_num_threads(self.config.num_threads)
            self._task = build_task(self.config, self._trusted_packages)
        return self._task

    def model(self, checkpoint: str = "best") -> nn.Module:
        """Return the model in evaluation mode with the weights of a checkpoint: `best`, `last` or `epoch_NNN`."""
        path = self.directory.checkpoint(checkpoint)
        load_checkpoint(path, self.task.model, device=self.task.device, restore_rng=False)
        return self.task.model.eval()

    def example_batch(self, split: str = "test") -> Batch:
        """Return the first batch of a split, on the model's device."""
        self._check_split(split)
        first = next(iter(self.task.batches(split)))
        return {name: tensor.to(self.task.device) for name, tensor in first.items()}

    def evaluate(self, checkpoint: str = "best", split: str = "test") -> dict[str, Any]:
        """Return what `results/metrics.json` would hold for this checkpoint and split."""
        self._check_split(split)
        return score_checkpoint(self.task, self.directory, checkpoint, split)

    def _check_split(self, split: str) -> None:
        if split not in self.task.data.splits:
            there = ", ".join(self.task.data.splits)
            raise InputError(f"{self.directory.path}: there is no split {split!r}; there are: {there}")


def load_run(run_dir: str | Path, trusted_packages: Sequence[str] = ()) -> SavedRun:
    """Open the run in `run_dir`.

    `trusted_packages`: packages beyond those under `src/` that its parts may be imported from; those that the saved
    config names are ignored.

    Raises:
        InputError: if there is no run.
    """
    return SavedRun(open_run(run_dir), trusted_packages)
