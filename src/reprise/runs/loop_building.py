"""Builds the training loop of a run: optimizer, schedule, precision, and what several processes need."""

import torch

from reprise.config.targets import build as build_target
from reprise.data import counter_of
from reprise.optimization.parameter_groups import parameter_groups
from reprise.runs.building import Task
from reprise.training.accumulation import Accumulation
from reprise.training.cadence import Cadence, num_total_steps
from reprise.training.loop import Events, Loop
from reprise.training.step import OptimizerStep, Precision


def build_loop(task: Task, events: Events) -> Loop:
    """Return the loop that trains the model of `task`, at step 0."""
    training, processes = task.config.training, task.processes
    batches = task.microbatches()
    total_steps = num_total_steps(batches.steps_per_epoch, training.max_epochs, training.max_steps)
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
    optimizer = build_target(
        training.optimizer,
        "training.optimizer",
        task.config.trusted_packages,
        params=parameter_groups(task.model, training.weight_decay),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )
    if task.is_sharded:
        share_optimizer(optimizer)
    scheduler = build_target(
        training.scheduler,
        "training.scheduler",
        task.config.trusted_packages,
        optimizer=optimizer,
        warmup_steps=training.warmup_steps,
        total_steps=total_steps,
    )
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
        count_items=counter_of(task.data.splits["train"], task.data.count_items),
        accumulation=accumulation,
        processes=processes,
    )
    loop = Loop(
        optimizer_step,
        batches,
        lambda: task.evaluate("val", lambda: loop.interruption is not None),
        events,
        Cadence(batches.steps_per_epoch, total_steps, training.eval_every_steps),
        monitor=training.monitor,
        monitor_mode=training.monitor_mode,
        processes=processes,
    )
    return loop
