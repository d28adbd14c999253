"""Starts or resumes a run: finds its directory and its config, and executes one attempt."""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from reprise.config import ExperimentConfig
from reprise.config.checking import show
from reprise.config.composed import Composed
from reprise.errors import ConfigError, InputError, Interrupted, Problem
from reprise.files.disk import translate_disk_errors
from reprise.runs.attempt import attempt
from reprise.runs.attempt_record import missing_parts
from reprise.runs.beginning import Beginning
from reprise.runs.building import build_callbacks, choose_device, num_microbatches
from reprise.runs.export import check_packages
from reprise.runs.provenance import code_patch, collect_provenance, credentials_in, drift, read_provenance
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.run_directory import RunDirectory, create_experiment_dir, find_run, open_run
from reprise.runs.stages import RunBeforeTraining
from reprise.training.processes import Processes, find_processes
from reprise.training.signals import stopped_by_signals

logger = logging.getLogger(__name__)


def train(composed: Composed) -> Path:
    """Execute the run that a config asks for, from its last checkpoint if it has one, and return its directory.

    Raises:
        InputError: if the config cannot be carried out here, or the run exists with another config.
        Interrupted: if a signal stopped it after saving.
    """
    config, processes = composed.config, find_processes()
    _check(config, processes)
    with stopped_by_signals(), processes.joined(choose_device(config.training.device, processes)):
        if not processes.is_first:
            return _take_part(processes)
        with translate_disk_errors(Path(config.output_dir)):
            directory, is_new = _create_or_find(config)
        with translate_disk_errors(directory.path), directory.locked():
            if directory.config.exists():
                config = same_config(directory, config)
            try:
                _execute(directory, config, config, composed.overrides, composed.record, processes)
            except InputError:
                if is_new and not directory.last_checkpoint.exists():
                    directory.discard()
                raise
            except (Interrupted, OSError) as stopped:
                if is_new and not directory.config.exists():
                    directory.discard()
                elif composed.config.run_id is None and isinstance(stopped, Interrupted):
                    stopped.advice = f"scripts/resume.py {directory.path} carries on."
                raise
    return directory.path


def resume(run_dir: str | Path, config: ExperimentConfig | None = None, trusted_packages: Sequence[str] = ()) -> Path:
    """Resume a run from its own saved config, or from a changed one, and return its directory.

    `config`: the saved one with changes, which are recorded in `status.json`. `trusted_packages`: packages beyond those
    under `src/` that the run's parts may be imported from; those that the saved config names are ignored.

    Raises:
        InputError: if there is no run, or the changes cannot be carried out.
        Interrupted: if a signal stopped it after saving.
    """
    directory, processes = open_run(run_dir), find_processes()
    saved = ExperimentConfig.load(directory.config)
    config = saved if config is None else config
    if config.preflight:
        raise InputError("preflight: is for scripts/train.py; what is resumed has run already")
    if config.training.num_microbatches == saved.training.num_microbatches and _num_samples(config) != _num_samples(
        saved
    ):
        config = _with_microbatches(config, None)  # the number was for other steps
    built = replace(config, trusted_packages=list(trusted_packages))
    _check(built, processes)
    with stopped_by_signals(), processes.joined(choose_device(config.training.device, processes)):
        if not processes.is_first:
            return _take_part(processes)
        with translate_disk_errors(directory.path), directory.locked():
            _execute(directory, config, built, (), {}, processes)
    return directory.path


def _check(config: ExperimentConfig, processes: Processes) -> None:
    """Raise an InputError before anything is created if something of the config cannot be had here."""
    training = config.training
    choose_device(training.device, processes)
    num_microbatches(training, processes.size)
    if training.parallel == "fsdp":
        for key, is_wanted in {
            "compile": training.compile,
            "precision": training.precision == "fp16",
            "reduction": training.reduction == "ordered",
        }.items():
            if is_wanted:
                given = getattr(training, key)
                raise InputError(f"training.{key}: {given!r} does not go with training.parallel 'fsdp'; ddp takes it")
    build_callbacks(config)
    check_packages(config.export)


def _execute(
    directory: RunDirectory,
    config: ExperimentConfig,
    built: ExperimentConfig,
    overrides: Sequence[str],
    record: Mapping[str, str],
    processes: Processes,
) -> None:
    directory.remove_leftovers()
    is_there = directory.config.exists()
    changes = ExperimentConfig.load(directory.config).differences(config) if is_there else []
    missing = missing_parts(directory)
    if directory.read_status().get("status") == "completed" and not (changes or missing):
        logger.info("%s is complete already; nothing to do", directory.path)
        processes.from_first((directory.path, None, None))
        return
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    num = num_microbatches(config.training, processes.size)
    config = replace(_with_microbatches(config, num), run_id=directory.run_id, num_threads=torch.get_num_threads())
    built = _with_microbatches(built, num)
    patch = code_patch()
    if patch is not None and (keys := credentials_in(patch)):
        logger.warning(
            "the changes of the code are not recorded, since they set %s in a config file, which looks like a "
            "credential; so this run cannot be repeated. Have the file say ${oc.env:NAME}",
            ", ".join(keys),
        )
        patch = None
    device = choose_device(config.training.device, processes)
    provenance = collect_provenance(overrides, device, patch, processes.size)
    recorded = read_provenance(directory.provenance)
    file = ProvenanceFile(directory, provenance, patch, is_held=is_there)
    beginning = Beginning(directory, config, file, changes, drift(recorded, provenance) if recorded else ())
    if not is_there:
        beginning.carry_out()
    run = RunBeforeTraining(
        directory=directory,
        config=config.recorded(),
        seed=config.seed,
        record=record,
        callbacks=build_callbacks(built),
        processes=processes,
    )
    processes.from_first((directory.path, config, built))
    attempt(run, built, beginning)


def _take_part(processes: Processes) -> Path:
    """Execute the run of the first process together with it, and return its directory."""
    nothing: tuple[Path, ExperimentConfig | None, ExperimentConfig | None] = (Path(), None, None)
    path, config, built = processes.from_first(nothing)
    if config is None or built is None:
        return path
    assert config.num_threads is not None
    torch.set_num_threads(config.num_threads)
    callbacks = {name: one for name, one in build_callbacks(built).items() if one.on_every_process}
    run = RunBeforeTraining(
        directory=RunDirectory(path),
        config=config.to_dict(),
        seed=config.seed,
        callbacks=callbacks,
        processes=processes,
    )
    attempt(run, built, Beginning(run.directory, config, ProvenanceFile(run.directory, is_writable=False)))
    return path


def _with_microbatches(config: ExperimentConfig, num: int | None) -> ExperimentConfig:
    return replace(config, training=replace(config.training, num_microbatches=num))


def _num_samples(config: ExperimentConfig) -> tuple[int, int]:
    return config.training.batch_size, config.training.gradient_accumulation


def _create_or_find(config: ExperimentConfig) -> tuple[RunDirectory, bool]:
    try:
        return RunDirectory(create_experiment_dir(config.output_dir, config.experiment_name, config.run_id)), True
    except FileExistsError:
        assert config.run_id is not None
        return RunDirectory(find_run(config.output_dir, config.experiment_name, config.run_id)), False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise InputError(f"output_dir: no run can be created in {config.output_dir!r}: {error.strerror}") from None


def same_config(directory: RunDirectory, config: ExperimentConfig) -> ExperimentConfig:
    """Return the config that the run was started with, after checking that it is the one asked for.

    Raises:
        ConfigError: with all differences.
    """
    saved = ExperimentConfig.load(directory.config)
    asked = replace(config.with_resolved_values_of(saved), run_id=saved.run_id, sweep_id=saved.sweep_id)
    if differences := saved.differences(asked):
        raise ConfigError(
            [Problem(d.key, f"{show(d.first)} there, {show(d.second)} asked for") for d in differences],
            f"the run {directory.run_id!r} exists with another config; choose another run_id, or change it with "
            f"scripts/resume.py {directory.path}",
        )
    return asked  # it has the secrets, too
