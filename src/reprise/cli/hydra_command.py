"""Composes what the command line asks for with Hydra, and then trains: one run, or a sweep.

Hydra composes first and has returned when training starts, so that nothing of Hydra is around a run.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reprise.cli.command_line import exits_with_messages
from reprise.cli.composing import validated
from reprise.cli.config_files import CONFIG_NAME, make_findable
from reprise.cli.job_configs import check_sweep
from reprise.cli.mending import mended_if_refused
from reprise.cli.overrides import with_texts_quoted
from reprise.config import ExperimentConfig
from reprise.config.composed import Composed
from reprise.errors import InputError
from reprise.private_names.hydra import get_args_parser
from reprise.training.processes import find_processes

_OTHER_REQUESTS = ("help", "hydra_help", "run", "cfg", "resolve", "info", "shell_completion")
"""What Hydra does instead of composing jobs; all but help it refuses together with `-m`."""


def run_hydra(task: Callable[[Composed], object], config_dir: Path) -> None:
    """Call `task` with the valid config that the command line asks for; once for each job of a sweep."""
    with exits_with_messages(is_shared=True):
        composed = _compose_or_sweep(task, config_dir)
        if composed is not None:
            task(composed)


def _compose_or_sweep(task: Callable[[Composed], object], config_dir: Path) -> Composed | None:
    """Return the config of a single run, or None: after a sweep, and where Hydra has printed what it was asked for."""
    # Hydra lets errors through, instead of printing them and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    make_findable()
    typed = list(sys.argv)
    arguments = get_args_parser().parse_args()
    if arguments.multirun and (size := find_processes().size) > 1:
        raise InputError(f"-m: a sweep starts its jobs itself; torchrun started {size} processes for a single run")
    main = hydra.main(version_base="1.3", config_path=str(config_dir), config_name=CONFIG_NAME)
    overrides = with_texts_quoted(arguments.overrides)

    def give_to_hydra(lines: Sequence[str]) -> None:
        given = dict(zip(arguments.overrides, lines, strict=True))
        sys.argv = [typed[0], *(given.get(argument, argument) for argument in typed[1:])]

    def compose(lines: Sequence[str]) -> Composed | None:
        give_to_hydra(lines)
        return _composed_by(main)

    def check(lines: list[str]) -> tuple[list[str], list[ExperimentConfig]]:
        return lines, check_sweep(config_dir, lines)

    try:
        if not arguments.multirun or any(getattr(arguments, request) for request in _OTHER_REQUESTS):
            return mended_if_refused(compose, config_dir, overrides, is_sweep=arguments.multirun)
        lines, jobs = mended_if_refused(check, config_dir, overrides, is_sweep=True)
        if any(job.preflight for job in jobs):
            # All jobs were checked by now, but not built: that would take a run's start for each.
            print("Every value of the sweep is valid. Its first job is tried:\n")
            return Composed(jobs[0], (), {})
        from hydra_plugins import _reprise  # not among what Hydra imports at each start
        from reprise.cli.sweep import carry_out_sweep

        _reprise.register()
        give_to_hydra(lines)
        carry_out_sweep(task, typed, jobs, lambda job: main(job)())
        return None
    finally:
        sys.argv = typed  # provenance records it


def _composed_by(main: Callable[[Callable[[DictConfig], None]], Callable[[], None]]) -> Composed | None:
    """Return what Hydra's own main function composes, None if it printed something instead."""
    composed: list[Composed] = []
    failures: list[Exception] = []

    def job(config: DictConfig) -> None:
        try:
            composed.append(validated(config))
            if composed[0].config.sweep_id is not None:
                raise InputError("sweep_id: names a sweep, and this is a single run; add -m")
            # Hydra takes these back when the job returns, and training comes after that.
            variables.update(HydraConfig.get().job.env_set)
        except Exception as error:
            failures.append(error)  # Hydra would print a line more

    variables: dict[str, str] = {}
    main(job)()
    if failures:
        raise failures[0]
    os.environ.update(variables)
    return composed[0] if composed else None
