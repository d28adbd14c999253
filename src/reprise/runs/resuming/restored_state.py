"""The state that a run resumes from, and what has changed since it was saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reprise.config import ExperimentConfig
from reprise.errors import CheckpointError, ConfigError
from reprise.files.differences import Difference
from reprise.files.json_values import mapping_at
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.provenance import read_provenance
from reprise.runs.resuming.damaged_checkpoints import whole_checkpoints
from reprise.runs.run_length import steps_of_epoch
from reprise.runs.stages import RunBeforeTraining
from reprise.training.cadence import Cadence, num_total_steps

# What neither training nor an evaluation depends on.
_BESIDE = (
    *("card.", "tracker.", "export.", "data.num_workers", "training.log_every_steps", "training.checkpoint_every_"),
    *(
        "callbacks.metrics_log.",
        "callbacks.checkpoints.",
        "callbacks.progress",
        "callbacks.plots",
        "callbacks.model_card",
    ),
)


@dataclass(frozen=True)
class Saved:
    """The state that a run resumes from, and the config that made it."""

    path: Path
    state: Mapping[str, Any]
    config: ExperimentConfig
    changes: tuple[Difference, ...]
    """Keys of the config that have another value now."""
    splits: Mapping[str, Any]
    """Size and fingerprint of each split by name, as they were."""
    damage: CheckpointError | None = None
    """What is wrong with the last checkpoint, if this is another one."""

    @property
    def step(self) -> int:
        step: int = self.state["step"]
        return step

    @property
    def changed_keys(self) -> list[str]:
        """Return the changed keys that training or its evaluations may depend on."""
        return [change.key for change in self.changes if not change.key.startswith(_BESIDE)]

    def has_changed(self, *keys: str) -> list[str]:
        """Return the keys that have changed and are among `keys`, or below one of them."""
        changed = [change.key for change in self.changes]
        return [one for one in changed if any(one == key or one.startswith(f"{key}.") for key in keys)]

    @cached_property
    def loop_state(self) -> dict[str, Any]:
        loop_state = dict(self._states["loop_state"])
        training = self.config.training
        if loop_state["best"] is not None:  # older ones know neither
            monitored = {"metric": training.monitor, "mode": training.monitor_mode}
            loop_state["best"] = monitored | loop_state["best"]
        return loop_state

    @property
    def callback_states(self) -> Mapping[str, Any]:
        states: Mapping[str, Any] = self._states["callback_states"]
        return states

    @property
    def _states(self) -> Mapping[str, Any]:
        """Those before the evaluation at the run's end, where a changed run has none."""
        return {**self.state, **(self.state.get("before_end", {}) if self.changed_keys else {})}

    @cached_property
    def cadence(self) -> Cadence:
        """How long epochs and the run were."""
        training, origin = self.config.training, self.loop_state.get("origin", 0)
        per_epoch = self.loop_state.get("steps_per_epoch")
        if per_epoch is None:  # as in older ones
            per_epoch = steps_of_epoch(training, self.splits["train"]["num_samples"])
        total = num_total_steps(per_epoch, training.max_epochs, training.max_steps, origin)
        return Cadence(per_epoch, total, training.eval_every_steps, origin)


def find_saved(run: RunBeforeTraining, device: torch.device) -> Saved | None:
    """Return what the run resumes from, or None if it has no checkpoint yet.

    If the last checkpoint is damaged, that is the newest one that is not.

    Raises:
        CheckpointError: if none is whole, or it is not one of a run.
    """
    directory, processes = run.directory, run.processes
    path, state, damage = directory.last_checkpoint, None, None
    if processes.is_first and path.exists():
        try:
            state = read_checkpoint(path, device)
        except CheckpointError as error:
            whole = [found for found in whole_checkpoints(directory) if found[1] != path]
            if not whole:
                raise CheckpointError(f"{error}; no other checkpoint is whole, and nothing was overwritten") from None
            (_, path), damage = max(whole), error
            state = read_checkpoint(path, device)
    found: Path | None = processes.from_first(None if state is None else path)
    if found is None:
        return None
    if state is None:  # the first process has checked the file
        state = read_checkpoint(found, device)
    if not all(isinstance(state.get(part), dict) for part in ("loop_state", "callback_states")):
        raise CheckpointError(f"{found} is not of a run: it has no states of its loop and callbacks")
    config, now = (_config(found, values) for values in (state["config"], run.config))
    splits = state.get("splits") or mapping_at(read_provenance(directory.provenance), "data", "splits")
    return Saved(found, state, config, tuple(config.differences(now)), splits, damage)


def _config(path: Path, values: Any) -> ExperimentConfig:
    try:
        return ExperimentConfig.from_dict(dict(values))
    except ConfigError as error:
        raise CheckpointError(f"{path} does not hold the config of a run: {error}") from None
