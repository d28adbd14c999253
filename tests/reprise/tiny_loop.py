"""The smallest thing that trains, for tests: a linear classifier, ragged batches and the loop around it."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Outcome
from reprise.data import Data, Description, TensorSplit, count_labels, stack
from reprise.files.content_hash import content_hash
from reprise.metrics import ClassificationMetrics, Metric
from reprise.models import ModelOutput
from reprise.optimization.parameter_groups import parameter_groups
from reprise.optimization.schedules import ConstantSchedule, CosineSchedule
from reprise.randomness import address, numpy_generator, seed_globals
from reprise.runs.checkpoint import load_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.stages import CallbackEvents, RunBeforeTraining, RunInTraining
from reprise.training.accumulation import Accumulation
from reprise.training.cadence import Cadence, num_total_steps
from reprise.training.evaluation import evaluate
from reprise.training.loading import Batches
from reprise.training.loop import Loop
from reprise.training.step import OptimizerStep, Precision

NUM_FEATURES, NUM_LABELS = 4, 3
CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(NUM_FEATURES, NUM_LABELS)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        logits = self.linear(self.dropout(inputs))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ModelOutput(logits, loss)


class Regression(nn.Module):
    def __init__(self, loss_shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_FEATURES, 1)
        self.loss_shape = loss_shape

    def forward(self, inputs: Tensor, labels: Tensor) -> ModelOutput:
        logits = self.linear(inputs)[:, 0]
        return ModelOutput(logits, ((logits - labels) ** 2).mean().reshape(self.loss_shape))


def make_split(num_samples: int, name: str = "train") -> TensorSplit:
    """Return samples that a linear classifier can learn; the same at each call."""
    generator = numpy_generator("tiny", name)
    inputs = torch.from_numpy(generator.normal(size=(num_samples, NUM_FEATURES))).float()
    return TensorSplit({"inputs": inputs, "labels": inputs[:, :NUM_LABELS].argmax(1)})


def masked(num_samples: int, valid: list[int], name: str = "train") -> TensorSplit:
    """Return a split of which only the samples `valid` have labels that count."""
    split = make_split(num_samples, name)
    labels = torch.full_like(split.columns["labels"], -100)
    labels[valid] = split.columns["labels"][valid]
    return TensorSplit({"inputs": split.columns["inputs"], "labels": labels})


class RecordedEvents:
    """Keeps what the loop announced: the event and the optimizer steps done by then."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.evaluations: list[dict[str, float]] = []
        self.loop: Loop

    def _record(self, name: str) -> None:
        self.seen.append((name, self.loop.step))

    def epoch_start(self) -> None:
        self._record("epoch_start")

    def step_end(self) -> None:
        self._record("step_end")

    def eval_end(self, metrics: Mapping[str, float]) -> None:
        self.evaluations.append(dict(metrics))
        self._record("eval_end")

    def epoch_end(self) -> None:
        self._record("epoch_end")

    def commit(self) -> None:
        self._record("commit")


def make_loop(
    *,
    num_samples: int = 10,
    batch_size: int = 4,
    dropout: float = 0.0,
    learning_rate: float = 0.1,
    model: nn.Module | None = None,
    split: Any = None,
    events: Any = None,
    scores: Callable[[], dict[str, float]] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
    schedule: Callable[..., Any] = CosineSchedule,
    warmup_steps: int = 0,
    max_epochs: int = 2,
    max_steps: int | None = None,
    gradient_accumulation: int = 1,
    num_workers: int = 0,
    eval_every_steps: int | None = None,
    autocast: Callable[[], Any] = contextlib.nullcontext,
    scaler: torch.amp.GradScaler | None = None,
    **options: Any,
) -> Loop:
    """Return a loop; three batches an epoch, the last smaller than the others, unless told otherwise."""
    seed_globals(address(0, "model"))
    model = Net(dropout) if model is None else model
    train = make_split(num_samples) if split is None else split
    batches = Batches(
        train,
        stack,
        batch_size=batch_size,
        seed=0,
        purpose="train",
        shuffle=True,
        num_workers=num_workers,
        num_per_step=gradient_accumulation,
    )
    total_steps = num_total_steps(batches.steps_per_epoch, max_epochs, max_steps)
    built = optimizer(parameter_groups(model, 0.0), lr=learning_rate)
    events = RecordedEvents() if events is None else events
    of_step = {name: options.pop(name) for name in ("gradient_clip", "on_nonfinite", "count_items") if name in options}
    optimizer_step = OptimizerStep(
        model,
        built,
        schedule(built, warmup_steps=warmup_steps, total_steps=total_steps),
        batches.samples_of_step,
        seed=0,
        precision=Precision(CPU, autocast, scaler),
        accumulation=Accumulation(model, gradient_accumulation) if gradient_accumulation > 1 else None,
        **of_step,
    )
    loop = Loop(
        optimizer_step,
        batches,
        partial(validate, model) if scores is None else scores,
        events,
        Cadence(batches.steps_per_epoch, total_steps, eval_every_steps),
        **options,
    )
    events.loop = loop
    return loop


def score(
    model: nn.Module,
    split: TensorSplit,
    batch_size: int = 3,
    split_name: str = "val",
    count_items: Callable[[dict[str, Tensor]], int] = count_labels,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    return evaluate(
        model,
        Batches(split, stack, batch_size=batch_size, seed=0, purpose=split_name),
        {"classification": ClassificationMetrics(NUM_LABELS)} if metrics is None else metrics,
        split=split_name,
        seed=0,
        device=CPU,
        autocast=lambda: torch.autocast("cpu", enabled=False),
        count_items=count_items,
    )


def validate(model: nn.Module) -> dict[str, float]:
    """Return the scores on seven samples, in ragged batches."""
    return score(model, make_split(7, "val"))


def one_step(batch_size: int, gradient_accumulation: int, **options: Any) -> tuple[Tensor, float]:
    """Return the weights after an epoch of a single step, and the loss that it logs."""
    loop = make_loop(
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        max_epochs=1,
        optimizer=torch.optim.SGD,
        schedule=ConstantSchedule,
        **options,
    )
    loop.run()
    assert (loop.step, loop.num_skipped) == (1, 0)
    return loop.model.linear.weight.detach(), loop.metrics["train/loss"]


def make_run(path: Path, callbacks: Mapping[str, Callback], **options: Any) -> RunInTraining:
    """Return a run with these callbacks and a loop around the tiny model, ready for `run.loop.run()`.

    It carries on from the last checkpoint in the directory `path`, if there is one. `options` are those of `make_loop`.
    """
    directory = RunDirectory(path)
    for folder in (directory.checkpoints, directory.logs):
        folder.mkdir(parents=True, exist_ok=True)
    start = RunBeforeTraining(directory=directory, config={}, seed=0, callbacks=callbacks)
    for callback in callbacks.values():
        callback.on_run_start(start)
    events = CallbackEvents()
    loop = make_loop(events=events, **options)
    data = Data(splits={}, collate=stack, description=Description(name="tiny", task="classification"))
    run = RunInTraining(**vars(start), data=data, model=loop.model, device=CPU, loop=loop)
    events.bind(run)
    if directory.last_checkpoint.exists():
        state = load_checkpoint(directory.last_checkpoint, loop.model, loop.optimizer, loop.scheduler)
        loop.load_state_dict(state["loop_state"])
        for name, callback in callbacks.items():
            if name in state["callback_states"]:
                callback.load_state_dict(state["callback_states"][name])
    for callback in callbacks.values():
        callback.on_restored(run)
    for callback in callbacks.values():
        callback.on_train_start(run)
    return run


def end(run: RunInTraining, outcome: Outcome = "completed") -> None:
    """Tell the callbacks that the run ends."""
    for callback in run.callbacks.values():
        callback.on_run_end(run, outcome)
    for callback in reversed(list(run.callbacks.values())):
        callback.on_close(run, outcome)


def weights_hash(loop: Loop) -> str:
    return content_hash(loop.model.state_dict())
