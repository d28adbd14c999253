"""Reads back from the parts of a run what its config says about them, before anything is trained."""

from collections.abc import Iterator
from typing import Any

import torch

from reprise.config.checking import show
from reprise.errors import ConfigError, Problem
from reprise.runs.building import Task
from reprise.runs.stages import RunInTraining

_DETERMINISTIC = {0: False, 1: True, 2: "strict"}
"""By torch's debug mode."""


def check_in_force(run: RunInTraining, task: Task) -> None:
    """Raise a ConfigError if a part is not as the config says, which then would be recorded and not be so.

    Most parts are made from the config a moment before. But a callback seeds, and a saved state may have been loaded;
    what that means for the optimizer is in `optimizer_settings`.
    """
    problems = [
        Problem(key, f"{show(value)} by the config, but {show(found)} is in force; something else has set it")
        for key, value, found in _read_back(run, task)
        if value != found
    ]
    if problems:
        raise ConfigError(problems, "the config would say what is not so")


def _read_back(run: RunInTraining, task: Task) -> Iterator[tuple[str, Any, Any]]:
    """Yield keys, what the config says, and what is in force."""
    config, loop = task.config, run.loop
    training = config.training
    if "seeding" in run.callbacks:  # which composed configs always have
        yield "deterministic", config.deterministic, _DETERMINISTIC[torch.get_deterministic_debug_mode()]
    if config.num_threads is not None:
        yield "num_threads", config.num_threads, torch.get_num_threads()
    if training.precision == "fp16" or loop.scales_loss:
        yield "training.precision", training.precision, "fp16" if loop.scales_loss else "fp32"
    yield "training.monitor", training.monitor, loop.monitor
    yield "training.monitor_mode", training.monitor_mode, loop.monitor_mode
    if loop.best is not None:
        yield "training.monitor", training.monitor, loop.best.metric
    yield "training.eval_every_steps", training.eval_every_steps, loop.cadence.eval_every_steps
