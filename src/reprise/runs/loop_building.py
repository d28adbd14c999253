"""Builds the training loop of a run: optimizer, schedule, precision, and what several processes need."""

from typing import Any

import torch

from reprise.config.schema import TrainingConfig
from reprise.config.targets import build as build_target
from reprise.optimization.parameter_groups import parameter_groups
from reprise.runs.building import Task
from reprise.runs.run_length import steps_of_run
from reprise.training.accumulation import Accumulation
from reprise.training.cadence import Cadence
from reprise.training.loop import Events, Loop
from reprise.training.step import OptimizerStep, Precision, Scheduler


def build_loop(task: Task, events: Events, origin: int = 0) -> Loop:
    """Return the loop that trains the model of `task`, at step 0. `origin`: the step from which epochs are counted."""
    training, processes = task.config.training, task.processes
    batches = task.microbatches(origin)
    total_steps = steps_of_run(training, len(task.data.splits["train"]), origin)
    spread = None
    if processes.size > 1:
        # These import what a single process has no use for.
        from reprise.training.parallel import share_optimizer, spread_model

        spread = spread_model(
            task.model, processes, training.parallel, training.reduction, task.device, task.train_once
        )
        task.is_sharded = training.parallel == "fsdp"
    accumulation, num = None, batches.num_per_step
    if num > 1:
        accumulation = Accumulation(task.model, num, processes=processes, reduction=training.reduction, spread=spread)
    optimizer = build_optimizer(task, training)
    if task.is_sharded:
        share_optimizer(optimizer)
    scheduler = build_schedule(task, training, optimizer, total_steps)
    optimizer_step = OptimizerStep(
        task.model,
        optimizer,
        scheduler,
        batches.samples_of_step,
        seed=task.config.seed,
        precision=Precision(
            task.device,
            task.autocast,
            torch.amp.GradScaler(task.device.type) if training.precision == "fp16" else None,
        ),
        gradient_clip=training.gradient_clip,
        on_nonfinite=training.on_nonfinite,
        count_items=task.counter("train"),
        accumulation=accumulation,
        processes=processes,
    )
    loop = Loop(
        optimizer_step,
        batches,
        lambda: task.evaluate("val", lambda: loop.interruption is not None),
        events,
        Cadence(batches.steps_per_epoch, total_steps, training.eval_every_steps, origin),
        monitor=training.monitor,
        monitor_mode=training.monitor_mode,
        processes=processes,
    )
    return loop


def build_optimizer(task: Task, training: TrainingConfig, groups: list[dict[str, Any]] | None = None) -> Any:
    """Return the optimizer that `training` asks for, of the model's parameters unless `groups` of others are given."""
    return build_target(
        training.optimizer,
        "training.optimizer",
        task.config.trusted_packages,
        params=parameter_groups(task.model, training.weight_decay) if groups is None else groups,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )


def build_schedule(
    task: Task, training: TrainingConfig, optimizer: torch.optim.Optimizer, total_steps: int
) -> Scheduler:
    """Return the learning rate schedule that `training` asks for, at its beginning."""
    scheduler: Scheduler = build_target(
        training.scheduler,
        "training.scheduler",
        task.config.trusted_packages,
        optimizer=optimizer,
        warmup_steps=training.warmup_steps,
        total_steps=total_steps,
    )
    return scheduler
