"""One attempt at a run: objects wired, loop run, results out; however it ends, that is recorded."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from reprise.callbacks import Callback, CallbackEvents, Outcome, Run
from reprise.config import ExperimentConfig
from reprise.config.secrets import hidden_in_text
from reprise.config.targets import build as build_target
from reprise.data import counter_of, describe_data, fingerprint
from reprise.errors import InputError, Interrupted, ProcessLost
from reprise.files.disk import translate_disk_errors
from reprise.models import describe_model
from reprise.optimization.parameter_groups import parameter_groups
from reprise.runs.building import Task, build_task, choose_device, num_microbatches
from reprise.runs.cost import CostMeter
from reprise.runs.export import export_model, formats_of
from reprise.runs.nondeterminism import nondeterministic_operations_noted
from reprise.runs.provenance import record_cost, record_determinism, update_provenance
from reprise.runs.restoring import mend_best, restore
from reprise.runs.results import shapes, write_results
from reprise.training.accumulation import Accumulation
from reprise.training.cadence import Cadence, num_total_steps
from reprise.training.loading import MOST_HELD
from reprise.training.loop import Loop
from reprise.training.processes import Processes
from reprise.training.signals import ignore_signals, stopped_by_signals
from reprise.training.step import OptimizerStep, Precision

logger = logging.getLogger(__name__)

Build = Callable[[ExperimentConfig, Sequence[str], Processes], Task]


def attempt(run: Run, config: ExperimentConfig, build: Build = build_task) -> None:
    """Work on the run until it is complete or something stops it; every callback that started hears how it ended.

    `config` says what to `build`; `run.config` is what is recorded. Of several processes the first one records.

    Raises:
        InputError: if the config cannot be carried out.
        Interrupted: if a signal stopped it after saving.
    """
    run.stoppable.is_shared = run.processes.size > 1
    with stopped_by_signals(run.stoppable):
        _attempt(run, config, build)


def _attempt(run: Run, config: ExperimentConfig, build: Build) -> None:
    directory, error = run.directory, None
    started: dict[str, Callback] = {}
    try:
        note = partial(record_determinism, directory.provenance) if run.processes.is_first else _forget
        with translate_disk_errors(directory.path), nondeterministic_operations_noted(note):
            _carry_out(run, config, build, started)
    except BaseException as stopped_by:
        if run.processes.size > 1 and run.processes.is_first:
            # torchrun ends all when one of them ends, and this one is to record and to say why.
            ignore_signals()
        error = run.processes.explained(stopped_by)
    outcome: Outcome = "completed"
    if isinstance(error, KeyboardInterrupt | ProcessLost):
        outcome = "interrupted"
    elif error is not None:
        outcome = "failed"
        if not isinstance(error, InputError):
            logger.error("the run failed: %s", error, exc_info=error)
    for name, callback in started.items():
        try:
            callback.on_run_end(run, outcome)
        except KeyboardInterrupt as stopped_by:
            if error is None:
                error, outcome = stopped_by, "interrupted"
        except Exception as raised:
            logger.exception("callback %s failed at the end of the run", name)
            if error is None:
                error, outcome = raised, "failed"
    for name, callback in reversed(started.items()):
        try:
            callback.on_close(run, outcome)
        except KeyboardInterrupt as stopped_by:
            if error is None:
                error, outcome = stopped_by, "interrupted"
        except Exception:
            logger.exception("callback %s failed to close", name)
    step = run.loop.step if hasattr(run, "loop") else None
    reason = f"{type(error).__name__}: {error}" if error is not None else _reason(run.loop)
    if run.processes.is_first:
        try:
            directory.end_attempt(outcome, hidden_in_text(reason), step)
        except OSError as full:
            logger.warning("how the attempt ended cannot be recorded: %s", full)
            if error is None:
                error = full
    if isinstance(error, Interrupted) and hasattr(run, "loop") and run.loop.interruption is not None:
        run.processes.wait()  # torchrun ends all when the first of them ends, and it may still be writing
    if error is not None:
        raise error


def _carry_out(run: Run, config: ExperimentConfig, build: Build, started: dict[str, Callback]) -> None:
    is_first = run.processes.is_first
    meter = CostMeter(choose_device(config.training.device, run.processes))
    for name, callback in run.callbacks.items():
        callback.on_run_start(run)
        started[name] = callback
    logger.info("run directory: %s", run.directory.path)
    task = build(config, config.trusted_packages, run.processes)
    run.data, run.model, run.device = task.data, task.model, task.device
    if is_first:
        update_provenance(
            run.directory.provenance,
            data=describe_data(task.data) | {"order_sha256": fingerprint(task.batches("train").order(0)[:MOST_HELD])},
            model=describe_model(task.model) | shapes(task),
            usage=task.data.usage,
        )
        record_determinism(run.directory.provenance)
    run.loop = run.stoppable.saving = _build_loop(run, task)
    first_step = restore(run)
    if is_first:
        run.directory.resume_attempt_from(first_step)
    for callback in run.callbacks.values():
        callback.on_train_start(run)

    began = time.monotonic()
    run.loop.run()
    training_seconds = time.monotonic() - began
    if run.loop.interruption is not None:
        raise Interrupted(f"by {run.loop.interruption} after step {run.loop.step}, saved")

    best = None
    if is_first and run.loop.best is not None:
        best = mend_best(run.directory, run.loop.best.step, task.device)
    run.processes.wait()  # for the best checkpoint, which the first one writes and all read
    run.results = write_results(task, run.directory, best)
    if not is_first:
        return
    export_model(task.model, task.data, task.model_spec, run.directory.export)
    _write_formats(task, run.directory.export)
    num_samples = len(task.data.splits["train"])
    first, last = (run.loop.num_samples_seen(step, num_samples) for step in (first_step, run.loop.step))
    earlier = run.directory.read_status()["attempts"][:-1]
    record_cost(run.directory.provenance, meter.measure(first_step, last - first, training_seconds, earlier))
    for callback in run.callbacks.values():
        callback.on_results(run)


def _write_formats(task: Task, directory: Path) -> None:
    """Write the export in the formats asked for; what cannot be written is no reason to lose a run that is trained."""
    formats = formats_of(task.config.export)
    if not formats:
        return
    from reprise.errors import ExportFailed
    from reprise.runs.export_formats import write_formats

    try:
        write_formats(task.model, task.data, directory, formats)
    except ExportFailed as error:
        logger.error("export: %s; scripts/export.py tries again", error)


def _build_loop(run: Run, task: Task) -> Loop:
    training = task.config.training
    batches, num = task.microbatches(), num_microbatches(training, run.processes.size)
    total_steps = num_total_steps(batches.steps_per_epoch, training.max_epochs, training.max_steps)
    spread = None
    if run.processes.size > 1:
        # These import what a single process has no use for.
        from reprise.training.parallel import share_optimizer, spread_model

        spread = spread_model(
            task.model, run.processes, training.parallel, training.reduction, task.device, task.train_once
        )
        task.is_sharded = training.parallel == "fsdp"
    accumulation = (
        None
        if num == 1
        else Accumulation(task.model, num, processes=run.processes, reduction=training.reduction, spread=spread)
    )
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
        processes=run.processes,
    )
    loop = Loop(
        optimizer_step,
        batches,
        lambda: task.evaluate("val", lambda: loop.interruption is not None),
        CallbackEvents(list(run.callbacks.values()), run),
        Cadence(batches.steps_per_epoch, total_steps, training.eval_every_steps),
        monitor=training.monitor,
        monitor_mode=training.monitor_mode,
        processes=run.processes,
    )
    return loop


def _forget(operation: str) -> None:
    """Leave it to the first process to note the operation: it computes the same."""


def _reason(loop: Loop) -> str:
    return loop.stop_reason or f"{loop.step} steps done"
