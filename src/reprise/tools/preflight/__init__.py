"""Checks in seconds that a run would work, and estimates what it would take; leaves nothing behind.

The check is a run: the same parts, built from the same config, take a few real steps in a scratch directory, and go on
through evaluation, checkpoints, results, export and card with one batch of each other split.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from reprise.callbacks.progress import Progress
from reprise.config import ExperimentConfig
from reprise.data import describe_data
from reprise.errors import ExportFailed, InputError, Interrupted
from reprise.files.disk import num_bytes_of
from reprise.files.json_file import read_object
from reprise.models import describe_model, evaluating
from reprise.runs.attempt import attempt
from reprise.runs.beginning import Beginning
from reprise.runs.building import Task, build_callbacks, choose_device
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.cost import peak_memory
from reprise.runs.doubts import doubts
from reprise.runs.export import check_packages, formats_of, from_pretrained
from reprise.runs.provenance import collect_provenance
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.run_directory import RunDirectory, create_experiment_dir, find_run
from reprise.runs.stages import RunBeforeTraining, RunInTraining
from reprise.runs.train import same_config
from reprise.text.numbers import binary_size
from reprise.tools.preflight.findings import Estimate, PreflightFindings
from reprise.tools.preflight.first_steps import FirstSteps

_MODEL_FILES = (".safetensors", ".onnx", ".pt2")


def preflight(config: ExperimentConfig) -> PreflightFindings:
    """Take the first steps of a run in a scratch directory, and return what was found.

    It computes on the CPU, unless `training.device` names another device that is here. Trackers are built, and send
    nothing.

    Raises:
        InputError: for what would stop the real run; the message names the key.
        Interrupted: if a signal stopped it.
    """
    place = _check_place(config)
    device, real_device, remarks = _choose_device(config.training.device)
    build_callbacks(config)
    check_packages(config.export)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.training.compile:
        remarks.append("training.compile was left out: the check ran the model as it is.")
    with tempfile.TemporaryDirectory(prefix="reprise_preflight_") as scratch, _quietly():
        checked = replace(
            config,
            output_dir=scratch,
            run_id="preflight",
            preflight=False,
            num_threads=torch.get_num_threads(),
            training=replace(config.training, device=str(device), compile=False),
            tracker={},
        )
        first_steps = FirstSteps()
        callbacks = {name: part for name, part in build_callbacks(checked).items() if not isinstance(part, Progress)}
        start = RunBeforeTraining(
            directory=RunDirectory(create_experiment_dir(scratch, checked.experiment_name, checked.run_id)),
            config=checked.to_dict(),
            seed=checked.seed,
            callbacks=callbacks | {"preflight": first_steps},
        )
        provenance = ProvenanceFile(start.directory, collect_provenance((), device, None))
        beginning = Beginning(start.directory, checked, provenance)
        beginning.carry_out()
        try:
            with first_steps.named():
                run = attempt(start, checked, beginning, first_steps.build)
                for part, error in run.missing.items():
                    if not isinstance(error, ExportFailed):  # `_check_export` names the formats
                        first_steps.stage = part
                        raise error
                read_checkpoint(run.directory.last_checkpoint)
                first_steps.stage = "export: loading it again"
                _check_export(run, first_steps.task)
                estimate = _estimate(run, first_steps, place)
        except Interrupted as stopped:
            stopped.advice = "The check left nothing behind."
            raise
        remarks += [f"Warning: {setting}: {why}." for setting, why in doubts(run.config, describe_data(run.data))]
        model = describe_model(run.model)
        findings = PreflightFindings(
            experiment_name=config.experiment_name,
            data=run.data.description.name,
            sizes=first_steps.sizes,
            model=model["class"].rpartition(".")[2],
            num_parameters=model["num_parameters"],
            batch_size=config.training.batch_size,
            losses=first_steps.losses,
            monitor=config.training.monitor,
            metrics=run.loop.metrics,
            export=sorted(path.name for path in run.directory.export.iterdir() if path.suffix in _MODEL_FILES),
            device=str(device),
            real_device=real_device,
            remarks=remarks,
            estimate=estimate,
        )
    if estimate.disk > estimate.free_disk:
        needed, free = binary_size(estimate.disk), binary_size(estimate.free_disk)
        raise InputError(f"output_dir: the run would keep about {needed}, and {free} are free in {place}")
    return findings


def _choose_device(name: str) -> tuple[torch.device, str, list[str]]:
    """Return the device of the check, the one of the run, and what is to be said about that."""
    if name == "auto":
        return torch.device("cpu"), str(choose_device(name)), []
    try:
        return choose_device(name), name, []
    except InputError:
        return (
            torch.device("cpu"),
            name,
            [f"training.device={name} is not on this machine; a run here would refuse it."],
        )


def _check_place(config: ExperimentConfig) -> Path:
    """Return the directory in which the run would be made.

    Raises:
        InputError: if it cannot be made there, or is there with another config.
    """
    target = find_run(config.output_dir, config.experiment_name, config.run_id or "any")
    if config.run_id is not None and (target / "config.json").exists():
        same_config(RunDirectory(target), config)
    place = next(folder for folder in target.absolute().parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"output_dir: no run can be created in {config.output_dir!r}: {place} cannot be written to")
    return place


def _check_export(run: RunInTraining, task: Task) -> None:
    asked = formats_of(task.config.export)
    record = read_object(run.directory.export / "exported.json") if asked else {}
    for name in asked:
        if failure := record[name].get("error"):
            raise InputError(f"export: {name} cannot be written: {failure}")
    loaded = from_pretrained(run.directory.export, task.config.trusted_packages).to(task.device)
    batch = {name: tensor.to(task.device) for name, tensor in next(iter(task.batches("val"))).items()}
    with evaluating(task.model) as model:
        expected, found = model(**batch).logits, loaded(**batch).logits
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-4):
        raise InputError("model: what is loaded from the export gives other logits than the model does")


def _estimate(run: RunInTraining, first_steps: FirstSteps, place: Path) -> Estimate:
    loop, directory, task = run.loop, run.directory, first_steps.task
    batch_size = task.config.training.batch_size
    num_batches = {split: -(-size // batch_size) for split, size in first_steps.sizes.items()}
    started = time.monotonic()
    task.evaluate("val")
    batch_seconds = time.monotonic() - started

    every_steps = task.config.training.eval_every_steps
    settings = task.config.callbacks.get("checkpoints") or {}
    every_epochs, keep = settings.get("every_epochs"), settings.get("keep")
    num_epochs = -(-loop.total_steps // loop.steps_per_epoch)
    size = directory.last_checkpoint.stat().st_size
    scored = "test" if "test" in first_steps.sizes else "val"
    share = first_steps.sizes[scored] / len(task.data.splits[scored])
    num_periodic = 0 if every_epochs is None else num_epochs // every_epochs
    num_checkpoints = 2 + min(num_periodic, keep or num_periodic)
    exported = sum(path.stat().st_size for path in directory.export.rglob("*") if path.is_file())
    gradients = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    return Estimate(
        total_steps=loop.total_steps,
        step_seconds=median(first_steps.step_seconds[1:] or first_steps.step_seconds),
        num_evaluations=num_epochs + (0 if every_steps is None else loop.total_steps // every_steps),
        evaluation_seconds=batch_seconds * num_batches["val"],
        test_seconds=batch_seconds * num_batches[scored],
        num_checkpoints=num_checkpoints,
        checkpoint_size=size,
        disk=num_checkpoints * size + exported + round(directory.predictions.stat().st_size * share),
        free_disk=shutil.disk_usage(place).free,
        state=num_bytes_of([run.model.state_dict(), gradients, loop.optimizer.state_dict()]),
        peak_memory=peak_memory(task.device),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the run's own messages off the console, but for warnings; what fails is said once, by who asked."""
    said = dict.fromkeys(("reprise.runs.doubts", "reprise.runs.ending"), logging.CRITICAL)
    levels = {"reprise": logging.WARNING, **said}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
