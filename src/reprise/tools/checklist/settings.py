"""The check that a run was trained with what its config says: what optimizer and schedule in `last.pt` are set to."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from reprise.config import ExperimentConfig
from reprise.config.schema import TrainingConfig
from reprise.config.targets import build
from reprise.errors import CheckFailed, CheckNotApplicable
from reprise.optimization.schedules import wind
from reprise.runs.run_length import steps_of_run
from reprise.tools.checklist.files import Checkpoint, RunFiles, as_code

_KNOWN = ("reprise.", "torch.")
"""What is here wherever the list is made; a part of the user's own need not be."""


def check_settings(files: RunFiles) -> str:
    last, config = files.last, ExperimentConfig.from_dict(dict(files.last.config))
    training = config.training
    targets = str(training.optimizer.get("_target_")), str(training.scheduler.get("_target_"))
    if not all(target.startswith(_KNOWN) for target in targets):
        raise CheckNotApplicable(f"`{targets[0]}` and `{targets[1]}` are not both of this engine or of torch.")
    total_steps = steps_of_run(training, files.num_samples("train"), last.origin)
    expected = _settings(training, last, total_steps)
    for group, found in zip(expected, last.settings, strict=True):
        for name in sorted(group.keys() & found.keys() - {"params"}):
            if not _is_close(group[name], found[name]):
                message = f"`{name}` of the optimizer in `last.pt` is {as_code(found[name])}; by its config it would be"
                message = f"{message} {as_code(group[name])} at step {last.step}"
                own = [name for name, spec in config.callbacks.items() if spec and _is_own(spec)]
                if own:
                    raise CheckNotApplicable(f"{message}, unless `{own[0]}`, a callback of your own, has changed it.")
                raise CheckFailed(f"{message}.")
    rate = last.settings[0]["lr"]
    return f"Optimizer and schedule in `last.pt` are set as `config.json` says; the learning rate is {rate:.4g}."


def _settings(training: TrainingConfig, last: Checkpoint, total_steps: int) -> list[dict[str, Any]]:
    """Return what an optimizer of as many groups is set to then; the first group is what is decayed."""
    groups = last.settings
    decays = [group.get("weight_decay", 0.0) for group in groups]
    if len(groups) > 1 or decays != [0.0]:
        decays = [training.weight_decay, *(0.0 for _ in groups[1:])]
    # A group with complex parameters has no fused kernel.
    are_complex = [last.has_complex and group.get("fused") is None for group in groups]
    params = [
        {
            "params": [torch.nn.Parameter(torch.zeros(1, 1, dtype=torch.complex64 if is_complex else None))],
            "weight_decay": decay,
        }
        for decay, is_complex in zip(decays, are_complex, strict=True)
    ]
    optimizer = build(
        training.optimizer,
        "training.optimizer",
        params=params,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
    )
    schedule = build(
        training.scheduler,
        "training.scheduler",
        optimizer=optimizer,
        warmup_steps=training.warmup_steps,
        total_steps=total_steps,
    )
    wind(schedule, last.step)
    return list(optimizer.param_groups)


def _is_own(spec: Mapping[str, Any]) -> bool:
    return not str(spec.get("_target_")).startswith(_KNOWN)


def _is_close(first: Any, second: Any) -> bool:
    """Return whether two settings are equal, but for what another machine's last digit may be."""
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_is_close, first, second))
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-15)
    return isinstance(first, torch.Tensor) or bool(first == second)
