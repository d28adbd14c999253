"""Trains: config in, objects wired, loop run, results out."""

import logging
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch

from reprise.building import Task, build_callbacks, build_task, choose_device
from reprise.callbacks import Callback, CallbackEvents, Outcome, Run
from reprise.checkpoint import load_checkpoint
from reprise.command_line import Interrupted
from reprise.config import ConfigError, ExperimentConfig, InputError
from reprise.config.composing import Composed
from reprise.config.targets import build
from reprise.data import describe_data
from reprise.export import export_model
from reprise.loop import Loop, num_steps_per_epoch, num_total_steps
from reprise.models import describe_model
from reprise.optimizers import parameter_groups
from reprise.provenance import collect_provenance, update_provenance
from reprise.randomness import restore_rng_state
from reprise.results import measure_cost, shapes, write_results
from reprise.run_directory import RunDirectory, create_experiment_dir, find_run

logger = logging.getLogger(__name__)


def train(composed: Composed) -> Path:
    """Carry out the run that a config asks for, from wherever it stands, and return its directory.

    Raises:
        InputError: if the config cannot be carried out here, or the run exists with another config.
        Interrupted: if a signal stopped it after saving.
    """
    config = composed.config
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = choose_device(config.training.device)
    callbacks = build_callbacks(config)
    directory, is_new = _create_or_find(config)
    with directory.locked():
        directory.remove_leftovers()
        if directory.config.exists():
            config = _same_config(directory, config)
            if directory.read_status().get("status") == "completed":
                logger.info("%s is complete already; nothing to do", directory.path)
                return directory.path
        else:
            config = replace(config, run_id=directory.run_id, num_threads=torch.get_num_threads())
        run = Run(
            directory,
            config.to_dict(),
            config.seed,
            provenance=collect_provenance(composed.overrides, device, config.deterministic),
            record=composed.record,
        )
        try:
            _attempt(run, config, callbacks)
        except InputError:
            if is_new and not directory.last_checkpoint.exists():
                directory.discard()
            raise
    return directory.path


def _create_or_find(config: ExperimentConfig) -> tuple[RunDirectory, bool]:
    try:
        return RunDirectory(create_experiment_dir(config.output_dir, config.experiment_name, config.run_id)), True
    except FileExistsError:
        assert config.run_id is not None
        return RunDirectory(find_run(config.output_dir, config.experiment_name, config.run_id)), False
    except OSError as error:
        raise InputError(f"output_dir: no run can be created in {config.output_dir!r}: {error.strerror}") from None


def _same_config(directory: RunDirectory, config: ExperimentConfig) -> ExperimentConfig:
    """Return the config that the run was started with, after checking that it is the one asked for.

    Raises:
        ConfigError: with all differences.
    """
    saved = ExperimentConfig.load(directory.config)
    asked = replace(config, num_threads=config.num_threads or saved.num_threads)
    differences = saved.differences(asked)
    if differences:
        raise ConfigError(
            differences, f"the run {directory.run_id!r} exists with another config; choose another run_id"
        )
    torch.set_num_threads(saved.num_threads or torch.get_num_threads())
    return saved


def _attempt(run: Run, config: ExperimentConfig, callbacks: Mapping[str, Callback]) -> None:
    """Work on the run until it is complete, or until something stops it; every callback hears how it ended."""
    directory, error = run.directory, None
    run.callbacks = callbacks
    directory.begin_attempt()
    try:
        with _interrupted_by_signals(run):
            _carry_out(run, config)
    except BaseException as stopped_by:
        error = stopped_by
    outcome: Outcome = "completed"
    if isinstance(error, KeyboardInterrupt):
        outcome = "interrupted"
    elif error is not None:
        outcome = "failed"
        if not isinstance(error, InputError):
            logger.error("the run failed: %s", error, exc_info=error)
    for name, callback in callbacks.items():
        try:
            callback.on_run_end(run, outcome)
        except Exception as raised:
            logger.exception("callback %s failed at the end of the run", name)
            error, outcome = error or raised, "completed" if error else "failed"
    step = run.loop.step if hasattr(run, "loop") else None
    reason = f"{type(error).__name__}: {error}" if error is not None else _reason(run.loop)
    directory.end_attempt(outcome, reason, step)
    if error is not None:
        raise error


def _carry_out(run: Run, config: ExperimentConfig) -> None:
    started = time.monotonic()
    for callback in run.callbacks.values():
        callback.on_run_start(run)
    logger.info("run directory: %s", run.directory.path)
    task = build_task(config, config.trusted_packages)
    run.data, run.model, run.device = task.data, task.model, task.device
    update_provenance(
        run.directory.provenance,
        data=describe_data(task.data),
        model=describe_model(task.model) | shapes(task),
        usage=task.data.usage,
    )
    run.loop = _build_loop(run, task)
    first_step = _restore(run)
    run.directory.resume_attempt_from(first_step)

    run.loop.run()
    if run.loop.interruption is not None and not run.loop.finished:
        raise Interrupted(f"by {run.loop.interruption} after step {run.loop.step}, saved")

    cost = measure_cost(run.loop, first_step, time.monotonic() - started, len(task.data.splits["train"]), task.device)
    run.results = write_results(task, run.directory)
    export_model(task.model, task.data, task.model_spec, run.directory.export)
    update_provenance(run.directory.provenance, cost=cost)


def _build_loop(run: Run, task: Task) -> Loop:
    training = task.config.training
    batches = task.batches("train")
    steps_per_epoch = num_steps_per_epoch(len(batches), training.gradient_accumulation)
    optimizer = build(
        training.optimizer,
        "training.optimizer",
        task.config.trusted_packages,
        params=parameter_groups(task.model, training.weight_decay),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )
    scheduler = build(
        training.scheduler,
        "training.scheduler",
        task.config.trusted_packages,
        optimizer=optimizer,
        warmup_steps=training.warmup_steps,
        total_steps=num_total_steps(steps_per_epoch, training.max_epochs, training.max_steps),
    )
    return Loop(
        task.model,
        optimizer,
        scheduler,
        batches,
        lambda: task.evaluate("val"),
        CallbackEvents(list(run.callbacks.values()), run),
        seed=task.config.seed,
        max_epochs=training.max_epochs,
        max_steps=training.max_steps,
        gradient_accumulation=training.gradient_accumulation,
        gradient_clip=training.gradient_clip,
        eval_every_steps=training.eval_every_steps,
        device=task.device,
        autocast=task.autocast,
        scaler=torch.amp.GradScaler(task.device.type) if training.precision == "fp16" else None,
        monitor=training.monitor,
        monitor_mode=training.monitor_mode,
        count_items=task.data.count_items,
    )


def _restore(run: Run) -> int:
    """Put everything into the state of the last checkpoint, if there is one; return its step."""
    path, loop = run.directory.last_checkpoint, run.loop
    if not path.exists():
        return 0
    state = load_checkpoint(path, loop.model, loop.optimizer, loop.scheduler, run.device)
    loop.load_state_dict(state["loop_state"])
    for name, callback in run.callbacks.items():
        callback.load_state_dict(state["callback_states"][name])
    restore_rng_state(state)
    logger.info("carrying on from step %d of %d", loop.step, loop.total_steps)
    return loop.step


def _reason(loop: Loop) -> str:
    return loop.stop_reason or f"{loop.step} steps done"


@contextmanager
def _interrupted_by_signals(run: Run) -> Iterator[None]:
    """On SIGINT, SIGTERM or SIGUSR1 finish the step and save; at the second, or outside the loop, stop at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        loop: Loop | None = getattr(run, "loop", None)
        if loop is None or loop.finished or loop.interruption is not None:
            raise Interrupted(f"by {name}")
        loop.interrupt(name)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
