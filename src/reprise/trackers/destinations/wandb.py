"""A run on a server of Weights & Biases, or in files that `wandb sync` sends there."""

import json
import os
import secrets
import shutil
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.errors import PermanentTrackerError, TemporaryTrackerError
from reprise.files.atomic_file import write_json
from reprise.runs.metrics_log import MetricEntry
from reprise.trackers.destinations import Destination, Outcome, TrackedRun
from reprise.trackers.destinations.parameters import parameters

_SECONDS_TO_CONNECT = 20.0
"""Unless WANDB_INIT_TIMEOUT says otherwise."""


class WandBDestination(Destination):
    """Lines carry the number of their step as W&B's own, so that the server itself drops what it has already.

    Offline there is nobody who looks, and W&B begins another directory at each restart: so the whole run is written at
    the end of each attempt, and takes the place of what the attempts before had written.
    """

    def __init__(self, project: str, entity: str | None, mode: str | None, tags: Sequence[str]) -> None:
        self._project = project
        self._entity = entity
        self._mode = mode or os.environ.get("WANDB_MODE") or "online"
        self._tags = list(tags)
        self.is_live = self._mode != "offline"

    def prepare(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb = wandb

    def open(self, run: TrackedRun) -> int:
        wandb, self._folder = self._wandb, run.directory.wandb
        record = self._folder / "run.json"
        ids = {"id": _new_id(), "project": self._project, "entity": self._entity}
        if record.exists():
            ids = json.loads(record.read_text(encoding="utf-8"))
        else:
            write_json(record, ids)
        self._earlier = list(self._folder.glob("wandb/offline-run-*"))
        try:
            self._run: Any = wandb.init(
                project=ids["project"],
                entity=ids["entity"],
                id=ids["id"],
                name=run.name,
                group=run.group,
                tags=self._tags,
                dir=str(self._folder),
                config=_values(parameters(run.config)),
                mode=self._mode,
                resume="allow",
                allow_val_change=True,
                settings=wandb.Settings(
                    init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _SECONDS_TO_CONNECT)),
                    console="off",
                    silent=True,
                    disable_git=True,  # provenance.json has it, without the credentials of the remote
                    save_code=False,
                    x_stats_pid=run.pid,
                ),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise PermanentTrackerError(f"W&B: {error}") from None
        except Exception as error:
            wandb.teardown()  # the id would stay in use
            raise TemporaryTrackerError(f"W&B does not answer: {error}") from None
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return int(self._run.starting_step) - 1

    def send(self, lines: Sequence[MetricEntry]) -> None:
        for line in lines:
            values = {**line.metrics, "epoch": line.epoch, "step": line.step, "_timestamp": line.seconds}
            self._run.log(values, step=line.step, commit=True)

    def finish(self, outcome: Outcome, files: Sequence[Path], results: MetricEntry | None) -> None:
        try:
            if results is not None:
                self._run.summary.update(dict(results.metrics))
            if files:
                artifact = self._wandb.Artifact(f"run-{self._run.id}-results", "results")
                for path in files:
                    artifact.add_file(str(path))
                self._run.log_artifact(artifact)
            self._run.finish(exit_code=0 if outcome == "completed" else 1)
        except Exception as error:
            raise TemporaryTrackerError(f"W&B does not take what is sent: {error}") from None
        if self._mode == "offline":
            for path in self._earlier:
                shutil.rmtree(path, ignore_errors=True)


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return single values as they are, and lists as text: W&B compares and groups by text and number."""
    return {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in values.items()}


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
