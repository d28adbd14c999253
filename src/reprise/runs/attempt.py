"""One attempt at a run: build, restore, train, finish; however it ends, that is recorded."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from reprise.callbacks import Callback
from reprise.config import ExperimentConfig
from reprise.data import describe_data, fingerprint
from reprise.errors import ExportFailed, Interrupted
from reprise.files.disk import translate_disk_errors
from reprise.files.plain_json import plain_json
from reprise.models import describe_model
from reprise.runs.attempt_record import resume_attempt_from
from reprise.runs.beginning import Beginning
from reprise.runs.building import Task, build_task, choose_device, warn_of_own_draws
from reprise.runs.cost import CostMeter, num_samples_seen
from reprise.runs.doubts import warn_of_doubts
from reprise.runs.ending import end
from reprise.runs.export import export_model, formats_of
from reprise.runs.in_force import check_in_force
from reprise.runs.loop_building import build_loop
from reprise.runs.model_errors import explained
from reprise.runs.nondeterminism import nondeterministic_operations_noted
from reprise.runs.products import EXPORT, FORMATS, making
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.rehearsal import rehearse
from reprise.runs.results import write_results
from reprise.runs.resuming.changes import Changes
from reprise.runs.resuming.damaged_checkpoints import mend_best
from reprise.runs.resuming.restored_state import Saved, find_saved
from reprise.runs.resuming.restoring import Restored, restore
from reprise.runs.run_length import num_samples_of_epoch
from reprise.runs.stages import CallbackEvents, RunBeforeTraining, RunInTraining
from reprise.training.loading import MOST_HELD
from reprise.training.processes import Processes
from reprise.training.signals import ignore_signals, stopped_by_signals
from reprise.training.unsaved_state import UnsavedState

logger = logging.getLogger(__name__)

Build = Callable[[ExperimentConfig, Sequence[str], Processes], Task]


def attempt(
    run: RunBeforeTraining, config: ExperimentConfig, beginning: Beginning, build: Build = build_task
) -> RunInTraining:
    """Execute the run until it is complete or something stops it, and return it as it is then.

    Every callback that started is called when it ends, too. `build` gets `config`; `run.config` is
    recorded. Of several processes the first one records. A run to be resumed has changed nowhere if that is refused.

    Raises:
        InputError: if the config cannot be carried out.
        Interrupted: if a signal stopped it after saving.
    """
    started: dict[str, Callback] = {}
    provenance = beginning.provenance
    reached, error = run, None
    run.stoppable.is_shared = run.processes.size > 1
    with stopped_by_signals(run.stoppable):
        try:
            with translate_disk_errors(run.directory.path), nondeterministic_operations_noted(provenance.add_operation):
                meter = CostMeter(choose_device(config.training.device, run.processes))
                _start(run, provenance, started)
                task = build(config, config.trusted_packages, run.processes)
                saved = find_saved(run, task.device)
                changes = Changes(run, task, saved)
                reached = training = _assemble(run, task, provenance, saved, changes)
                restored = restore(training, task, saved, changes.measured_otherwise)
                check_in_force(training, task)
                _begin(training, beginning, restored, changes)
                seconds = _train(training, restored)
                reached = finished = _score(training, task)
                if run.processes.is_first:
                    _export(finished, task)
                    with making(run, run.directory.provenance.name):
                        provenance.set_cost(_cost(finished, task, meter, restored.step, seconds))
                    for name, callback in run.callbacks.items():
                        with making(run, f"callbacks.{name}"):
                            callback.on_results(finished)
        except BaseException as stopped_by:
            if run.processes.size > 1 and run.processes.is_first:
                # torchrun ends all when one of them ends; this one has to record why.
                ignore_signals()
            error = explained(run.processes.explained(stopped_by), reached)
        end(reached, started, error, beginning)
    assert isinstance(reached, RunInTraining)
    return reached


def _start(run: RunBeforeTraining, provenance: ProvenanceFile, started: dict[str, Callback]) -> None:
    provenance.begin()
    for name, callback in run.callbacks.items():
        callback.on_run_start(run)
        started[name] = callback
    logger.info("run directory: %s", run.directory.path)


def _assemble(
    run: RunBeforeTraining, task: Task, provenance: ProvenanceFile, saved: Saved | None, changes: Changes
) -> RunInTraining:
    """Return the run with all its parts, at step 0."""
    shapes = {}
    if run.processes.is_first:
        warn_of_doubts(run.config, describe_data(task.data))
        warn_of_own_draws(task)
        shapes = rehearse(task)
    are_other = saved is not None and (saved.changed_keys or changes.other_splits)
    provenance.add_parts(
        lambda: {
            "data": plain_json(describe_data(task.data), "data")
            | {"order_sha256": fingerprint(task.batches("train").order(0)[:MOST_HELD])},
            "model": describe_model(task.model) | shapes,
            "usage": task.data.usage,
        },
        known="none" if saved is None else "weights" if are_other else "all",
    )
    events = CallbackEvents()
    loop = run.stoppable.saving = build_loop(task, events, changes.origin)
    training = RunInTraining(**vars(run), data=task.data, model=task.model, device=task.device, loop=loop)
    events.bind(training, *([UnsavedState()] if run.processes.is_first else []))
    return training


def _begin(run: RunInTraining, beginning: Beginning, restored: Restored, changes: Changes) -> None:
    """Write down that the run goes on, and with which changes; from here on its files change."""
    if run.processes.is_first:
        restored.mend_last(run)
        if not beginning.is_done:
            beginning.drift += changes.data_drift()
            beginning.carry_out()
        restored.put_best(run)  # by the config that is written now
    beginning.is_done = True
    for callback in run.callbacks.values():
        callback.on_restored(run)


def _train(run: RunInTraining, restored: Restored) -> float:
    """Train to the end, and return its seconds.

    Raises:
        Interrupted: if a signal stopped it after saving.
    """
    if run.processes.is_first:
        resume_attempt_from(run.directory, restored.step)
    for callback in run.callbacks.values():
        callback.on_train_start(run)
    loop, saved = run.loop, restored.saved
    if saved is not None and saved.changed_keys and loop.finished and loop.evaluated_step == loop.step:
        events = CallbackEvents()
        events.bind(run)
        events.commit()  # no step is left after which the state would be saved with the changed config
    began = time.monotonic()
    run.loop.run()
    if run.loop.interruption is not None:
        raise Interrupted(f"by {run.loop.interruption} after step {run.loop.step}, saved")
    return time.monotonic() - began


def _score(run: RunInTraining, task: Task) -> RunInTraining:
    """Return the run with the results of its best checkpoint, whose weights the model has from then on."""
    best = None
    if run.processes.is_first and run.loop.best is not None:
        best = mend_best(run.directory, run.loop.best.step, task.device)
    run.processes.wait()  # the first one writes the best checkpoint, and all read it
    results = write_results(task, run.directory, best, run.loop.chosen_from, partial(making, run))
    return replace(run, model=task.model, results=results)


def _export(run: RunInTraining, task: Task) -> None:
    with making(run, EXPORT):
        export_model(task.model, task.data, task.model_spec, run.directory.export)
    formats = formats_of(task.config.export)
    if formats and EXPORT not in run.missing:
        from reprise.runs.export_formats import write_formats

        with making(run, FORMATS):
            try:
                write_formats(task.model, task.data, run.directory.export, formats)
            except ExportFailed as error:
                raise ExportFailed(f"{error}; scripts/export.py tries again") from error


def _cost(run: RunInTraining, task: Task, meter: CostMeter, first_step: int, seconds: float) -> Mapping[str, object]:
    loop, training = run.loop, task.config.training
    num_samples = num_samples_of_epoch(training, len(run.data.splits["train"]))
    size = training.batch_size * training.gradient_accumulation
    first, last = (
        num_samples_seen(step - loop.cadence.origin, num_samples, loop.steps_per_epoch, size)
        for step in (first_step, loop.step)
    )
    earlier = run.directory.read_status()["attempts"][:-1]
    return meter.measure(first_step, last - first, seconds, earlier)
