"""Builds the parts of a run from its config: what training, evaluation and notebooks share."""

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from reprise.config import ExperimentConfig
from reprise.config.components import callback_targets, data_target, model_target
from reprise.config.schema import TrainingConfig
from reprise.config.targets import build, complete
from reprise.data import Batch, Data, counter_of, on_device
from reprise.data.labels import ClassLabels, class_labels
from reprise.data.plain_facts import with_plain_facts
from reprise.errors import InputError
from reprise.metrics import Metric
from reprise.models.lazy_parameters import materialize
from reprise.randomness.addresses import model_seed, seed_globals
from reprise.runs.run_length import num_samples_of_epoch
from reprise.training.evaluation import evaluate
from reprise.training.loading import Batches
from reprise.training.own_draws import draws_for_itself
from reprise.training.processes import ALONE, Processes

logger = logging.getLogger(__name__)

_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Task:
    """Data, a model with fresh weights, and what is needed to score it."""

    data: Data
    model: nn.Module
    metrics: dict[str, Metric]
    device: torch.device
    autocast: Callable[[], contextlib.AbstractContextManager[object]]
    config: ExperimentConfig
    model_spec: dict[str, Any]
    """The model's `_target_` with all arguments, those that the data gave too."""
    processes: Processes = ALONE
    class_labels: ClassLabels | None = None
    is_sharded: bool = False
    """Whether each process has a part of the model only."""

    def batches(self, split: str) -> Batches:
        """Return the batches of a split, shuffled and with training's random draws if it is `train`."""
        return self._batches(split, self.config.training.batch_size)

    def microbatches(self, origin: int = 0) -> Batches:
        """Return what the training loop goes through: this process's share of the microbatches of each step.

        `origin`: the step from which epochs are counted.
        """
        training, processes = self.config.training, self.processes
        num = num_microbatches(training, processes.size)
        return self._batches(
            "train",
            training.batch_size * training.gradient_accumulation // num,
            num_per_step=num,
            share=None if processes.size == 1 else processes.share(num),
            origin=origin,
            num_samples=num_samples_of_epoch(training, len(self.data.splits["train"])),
        )

    def _batches(self, split: str, batch_size: int, **sharing: Any) -> Batches:
        return Batches(
            self.data.splits[split],
            self.data.collate,
            batch_size=batch_size,
            seed=self.config.seed,
            purpose=split,
            shuffle=split == "train",
            num_workers=self.config.data.num_workers,
            pin_memory=self.device.type == "cuda",
            only=self.config.training.overfit_batches if split == "train" else None,
            **sharing,
        )

    def first_batch(self) -> Batch:
        """Return the first of this process's microbatches, on the host."""
        with contextlib.closing(self.microbatches().stream()) as stream:  # type: ignore[type-var]
            return next(stream)

    def first_sample(self) -> Batch:
        """Return a batch of the first sample of training alone."""
        with contextlib.closing(self._batches("train", 1).stream()) as stream:  # type: ignore[type-var]
            return next(stream)

    def counter(self, split: str) -> Callable[[Batch], int]:
        """Return what counts the items in batches of a split.

        Where labels are numbers of classes, it raises an InputError for one that is none, before any loss sees it.
        """
        if self.class_labels is None:
            return counter_of(self.data.splits[split], self.data.count_items)
        return self.class_labels.counter(split, self.data)

    def train_once(self, forward: nn.Module) -> None:
        """Run the model in training, as `forward`, over the first of this process's microbatches."""
        forward.train()
        batch = on_device(self.first_batch(), self.device)
        with self.autocast():
            loss = forward(**batch).loss
        loss.backward()

    def evaluate(self, split: str, should_stop: Callable[[], bool] = bool) -> dict[str, float]:
        """Return loss and metrics of a split; the metrics can be asked for details and predictions afterwards.

        Raises:
            EvaluationStopped: if `should_stop` says so, which is asked before each batch.
        """
        return evaluate(
            self.model,
            self.batches(split),
            self.metrics,
            split=split,
            seed=self.config.seed,
            device=self.device,
            autocast=self.autocast,
            count_items=self.counter(split),
            processes=self.processes,
            is_sharded=self.is_sharded,
            should_stop=should_stop,
        )

    def make_whole(self) -> None:
        """Put a whole model in the place of a sharded one, in the first process; all of them have to call this."""
        if self.is_sharded:
            state = self.model.state_dict()
            if self.processes.is_first:
                model = build(self.model_spec, "model", self.config.trusted_packages)
                model.load_state_dict(state)
                self.model, self.is_sharded = model.to(self.device).eval(), False


def num_microbatches(training: TrainingConfig, num_processes: int) -> int:
    """Return into how many microbatches a step is cut: as configured, or what so many processes need.

    Raises:
        InputError: if they cannot be shared equally, or the samples of a step cannot be cut so.
    """
    num_samples = training.batch_size * training.gradient_accumulation
    num = training.num_microbatches or math.lcm(training.gradient_accumulation, num_processes)
    if num % num_processes:
        raise InputError(f"training.num_microbatches: expected a multiple of the {num_processes} processes, got {num}")
    if num_samples % num:
        raise InputError(
            f"training.num_microbatches: expected a divisor of the {num_samples} samples of a step "
            f"(training.batch_size × training.gradient_accumulation), got {num}"
            + ("" if training.num_microbatches else f", which is what {num_processes} processes need")
        )
    return num


def build_task(config: ExperimentConfig, trusted_packages: Sequence[str], processes: Processes = ALONE) -> Task:
    """Build data, model and metrics.

    Raises:
        InputError: if the data is not as it should be, or a target lacks an argument.
    """
    values = config.to_dict()
    device = choose_device(config.training.device, processes)
    data = build(data_target(values["data"]), "data", trusted_packages, seed=config.seed)
    if not isinstance(data, Data):
        raise InputError(
            f"data._target_: expected a function that returns a reprise.data.Data, got {type(data).__name__}"
        )
    data = with_plain_facts(data)
    # Initialisation has an address of its own, so that nothing that drew before can shift it.
    seed_globals(model_seed(config.seed))
    model_spec = complete(model_target(values["model"]), data.facts, trusted_packages)
    labels = class_labels(data, model_spec, values["model"])
    if labels is not None:
        labels.check_held(data)
    model = build(model_spec, "model", trusted_packages)
    if not isinstance(model, nn.Module):
        raise InputError(f"model._target_: expected a torch.nn.Module, got {type(model).__name__}")
    metrics = {
        name: build(spec, f"metrics.{name}", trusted_packages, **data.facts) for name, spec in config.metrics.items()
    }
    autocast = choose_autocast(device, config.training.precision)
    task = Task(data, model, metrics, device, autocast, config, model_spec, processes, labels)
    materialize(model, task.first_batch, config.seed)  # before the model moves: it is initialised where it is built
    # Whole, whatever mode its parts come in: pretrained ones come in evaluation mode.
    task.model = model.to(device).train()
    if config.training.compile:
        # Now the compiler has to hear of deterministic kernels as well.
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=warn_only)
        mode = "reduce-overhead" if config.training.compile == "cuda_graphs" else None
        model.compile(mode=mode)  # in place: the keys of the state stay as they are
    return task


def warn_of_own_draws(task: Task) -> None:
    """Warn of a training split whose samples differ when they are read twice; two of them are."""
    split, batches = task.data.splits["train"], task.batches("train")
    if draws_for_itself(batches.fetcher, batches.order(0)[:2], task.config.data.num_workers):
        logger.warning(
            "data: two samples of the training split (%s.%s) were read twice, and differed: it draws random numbers of "
            "its own. They repeat in each loader process, and are others when the run is resumed. Draw from `draws` in "
            "`get_sample(self, index, draws)` instead, which replaces `__getitem__`: docs/your-own.md",
            type(split).__module__,
            type(split).__qualname__,
        )


def build_callbacks(config: ExperimentConfig) -> dict[str, Any]:
    """Return the callbacks and trackers of a config by name."""
    return {
        name: build(spec, f"callbacks.{name}", config.trusted_packages)
        for name, spec in callback_targets(config.to_dict()).items()
    }


def choose_device(name: str, processes: Processes = ALONE) -> torch.device:
    """Return the device called `name`, or for `auto` the first there is of cuda, mps and cpu.

    Of several processes each has a GPU of its own.

    Raises:
        InputError: if it is not there.
    """
    if processes.size > 1:
        if name.startswith(("cuda:", "mps")):
            raise InputError(
                f"training.device: {name!r} is one device; {processes.size} processes take auto, cuda or cpu"
            )
        if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
            name = f"cuda:{processes.local_rank}"
        elif name == "auto":
            name = "cpu"
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"training.device: {name!r} is not here; torch sees {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("training.device: 'mps' is not here")
    return device


def choose_autocast(device: torch.device, precision: str) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Return what makes the context in which the model runs."""
    if precision == "fp32":
        return contextlib.nullcontext
    return partial(torch.autocast, device.type, dtype=_AUTOCAST_TYPES[precision])
