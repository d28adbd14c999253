"""Sweeps: many runs from one command, in one process or many, and what they come to together.

`job` carries out one job and records how it ended; `launcher` is what the launchers share, which `hydra_plugins` names
for Hydra, and `worker_processes` what those share that put jobs into other processes: `loky_workers`, `submitit_jobs`
and `ray_jobs`. `reprise.tools.sweep` proposes the trials of a search, and summarises the records.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from reprise.cli.sweep.job import SweepJob
from reprise.config import ExperimentConfig
from reprise.config.composed import Composed
from reprise.config.secrets import hidden_in_arguments
from reprise.errors import ConfigError, Failure, InputError, Interrupted, Problem
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.runs.sweep_directory import SweepDirectory, create_or_open_sweep
from reprise.text.numbers import count
from reprise.tools.sweep.documents import console_text, write_summary
from reprise.training.signals import stopped_by_signals

_SAME_IN_ALL_JOBS = ("output_dir", "experiment_name", "sweep_id")


def carry_out_sweep(
    task: Callable[[Composed], object],
    command: Sequence[str],
    configs: Sequence[ExperimentConfig],
    launch: Callable[[SweepJob], object],
) -> None:
    """Have `launch` carry out jobs, and write and print what they came to.

    `command`: as typed. `configs`: of some of the jobs, in which every value occurs that the sweep gives to a key.

    Raises:
        InputError: if the jobs cannot be those of one sweep.
        Failure: if any failed.
        Interrupted: if a signal stopped the sweep; what was under way has been saved.
    """
    directory = _open(configs)
    is_new = not directory.definition.exists()
    directory.remove_leftovers()
    interruption: Interrupted | None = None
    try:
        _define(directory, command)
        with stopped_by_signals():
            launch(SweepJob(task, directory, tuple(command)))
    except KeyboardInterrupt as stopped:
        interruption = stopped if isinstance(stopped, Interrupted) else Interrupted("by SIGINT")
    except BaseException:
        if is_new and not any(directory.records.iterdir()):
            _discard(directory)
        raise
    summary = write_summary(directory)
    if summary.jobs:
        print(console_text(summary, shutil.get_terminal_size().columns if sys.stdout.isatty() else None), end="")
    print(directory.path)
    if interruption is not None:
        interruption.advice = f"The same command with sweep_id={directory.sweep_id} carries on."
        raise interruption
    if num_failed := summary.num_jobs.get("failed"):
        raise Failure(f"{count(num_failed, 'job')} failed; {directory.summary_markdown} says why")


def _open(configs: Sequence[ExperimentConfig]) -> SweepDirectory:
    first = configs[0]
    if first.run_id is not None:
        raise ConfigError([Problem("run_id", "the runs of a sweep are named after it; name that: sweep_id=NAME")])
    for config in configs:
        for key in _SAME_IN_ALL_JOBS:
            one, other = getattr(first, key), getattr(config, key)
            if one != other:
                message = f"expected one for all jobs of a sweep, got {one!r} and {other!r}; set {key}=NAME"
                raise ConfigError([Problem(key, message)])
    try:
        return create_or_open_sweep(first.output_dir, first.experiment_name, first.sweep_id)
    except OSError as error:
        message = f"no sweep can be created in {first.output_dir!r}: {error.strerror}"
        raise InputError(f"output_dir: {message}") from None


def _define(directory: SweepDirectory, command: Sequence[str]) -> None:
    """Record what the sweep goes over; each other command that adds to it is added."""
    known = read_object(directory.definition)
    commands: list[dict[str, Any]] = known.get("commands", [])
    arguments = hidden_in_arguments(command)
    if arguments not in [one["arguments"] for one in commands]:
        commands.append({"arguments": arguments, "first_given": datetime.now(UTC).isoformat(timespec="seconds")})
        names = {"sweep_id": directory.sweep_id, "experiment_name": directory.experiment_name}
        write_json(directory.definition, {**known, **names, "commands": commands})


def _discard(directory: SweepDirectory) -> None:
    """Remove a sweep that came to nothing, and the folders above it that hold nothing else."""
    shutil.rmtree(directory.path)
    with suppress(OSError):  # not empty
        for folder in list(directory.path.parents)[:4]:
            folder.rmdir()
