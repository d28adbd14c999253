"""The first steps of a run: with one batch of each split but the one for training, timed, and then the end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from reprise.callbacks import Callback, Run
from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.runs.building import Task, build_task
from reprise.runs.model_errors import place_of
from reprise.training.processes import Processes

_SECONDS_OF_STEPS = 1.0
_MOST_STEPS = 20


class FirstSteps(Callback):
    """Ends a run after its first steps, and knows what it was doing. To be called after all other callbacks."""

    def __init__(self) -> None:
        self.stage = "data, model: building them"
        self.sizes: dict[str, int] = {}
        """Samples of each split."""
        self.losses: list[float] = []
        self.step_seconds: list[float] = []
        self._since = 0.0

    def build(self, config: ExperimentConfig, trusted_packages: Sequence[str], processes: Processes) -> Task:
        """Build the real parts, and make all splits short that are only scored."""
        self.task = task = build_task(config, trusted_packages, processes)
        self.sizes = {name: len(split) for name, split in task.data.splits.items()}
        splits = {
            name: split if name == "train" else _FirstSamples(split, _num_with_items(task, name))
            for name, split in task.data.splits.items()
        }
        # Baselines and samples of what a model writes may take long, and are made of nothing that a config says.
        task.data = replace(task.data, splits=splits, baselines={}, generate=None)
        self.stage = "model, metrics, training: a validation batch through the model, and the making of the optimizer"
        return task

    def on_train_start(self, run: Run) -> None:
        self._begin_step()

    def on_step_end(self, run: Run) -> None:
        loop = run.loop
        if loop.loss is not None:  # or the step was skipped
            self.losses.append(float(loop.loss))  # waits for the device
        self.step_seconds.append(time.monotonic() - self._since)
        num_steps = len(self.step_seconds)
        if num_steps == _MOST_STEPS or (len(self.losses) > 1 and sum(self.step_seconds) > _SECONDS_OF_STEPS):
            loop.stop("enough for a check")
        self.stage = "model, metrics: the evaluation of a validation batch"

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        self.stage = "callbacks: what follows an evaluation, checkpoints among it"

    def on_commit(self, run: Run) -> None:
        self._begin_step()
        if run.loop.finished:
            self.stage = "metrics, callbacks: scores of the best checkpoint, predictions, export and card"

    def _begin_step(self) -> None:
        self.stage = "model, training: forward, backward and optimizer on a batch of training"
        self._since = time.monotonic()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Make of any error an InputError that says in which stage it came, and where in the code.

        Raises:
            InputError: instead of any other exception.
        """
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.stage} failed with {type(error).__name__}: {error}{place_of(error)}") from error


def _num_with_items(task: Task, split: str) -> int:
    """Return the number of samples up to the end of the first batch that has an item to score."""
    num_batches = 1
    if split in ("val", "test"):
        count_items = task.counter(split)
        with_items = (number for number, batch in enumerate(task.batches(split), 1) if count_items(batch))
        num_batches = next(with_items, 1)
    return num_batches * task.config.training.batch_size


class _FirstSamples:
    def __init__(self, split: Any, num_samples: int) -> None:
        self._split = split
        self._num_samples = min(num_samples, len(split))
        for name in ("get_batch", "get_sample"):
            if hasattr(split, name):
                setattr(self, name, getattr(split, name))

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, index: int) -> Any:
        return self._split[index]
