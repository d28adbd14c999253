"""Shows the run in Weights & Biases: on a server, or in files that `wandb sync` sends there."""

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from reprise.callbacks import Outcome
from reprise.config import PositiveFloat
from reprise.errors import PermanentTrackerError, TemporaryTrackerError
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.base import parameters
from reprise.trackers.server import ServerTracker

_SECONDS_TO_CONNECT = 20.0
"""Unless WANDB_INIT_TIMEOUT says otherwise."""


class WandB(ServerTracker):
    """`mode`: online; offline writes files for `wandb sync` at the end of each attempt; None is as WANDB_MODE says.

    The key is that of `wandb login` or WANDB_API_KEY; no setting takes one, since settings are written down. Lines
    carry the number of their step as W&B's own, so that the server itself drops what it has already.
    """

    package = "wandb"

    def __init__(
        self,
        project: str,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        tags: Sequence[str] = (),
        seconds_at_end: PositiveFloat = 60.0,
        seconds_when_stopped: PositiveFloat = 10.0,
    ) -> None:
        super().__init__(seconds_at_end, seconds_when_stopped)
        self._project = project
        self._entity = entity
        self._tags = list(tags)
        self._mode: Any = mode or os.environ.get("WANDB_MODE") or "online"
        # W&B begins another directory at each restart, so the whole run is written at the end of each attempt.
        self.is_live = self._mode != "offline"

    def folder(self, directory: RunDirectory) -> Path:
        return directory.wandb

    def sync(self, directory: RunDirectory, outcome: Outcome, seconds: float) -> bool:
        self._mode = "online"
        return super().sync(directory, outcome, seconds)

    def open(self, directory: RunDirectory) -> int:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb = wandb
        record = directory.wandb / "run.json"
        ids = read_object(record)
        if not ids:
            ids = {"id": secrets.token_hex(8), "project": self._project, "entity": self._entity}
            write_json(record, ids)
        self._earlier = list(directory.wandb.glob("wandb/offline-run-*"))
        values = parameters(directory)
        try:
            self._run: Any = wandb.init(
                project=ids["project"],
                entity=ids["entity"],
                id=ids["id"],
                name=directory.run_id,
                group=values.get("sweep_id"),
                tags=self._tags,
                dir=str(directory.wandb),
                # W&B compares and groups by text and number.
                config={key: json.dumps(v) if isinstance(v, list | dict) else v for key, v in values.items()},
                mode=self._mode,
                resume="allow",
                allow_val_change=True,
                settings=wandb.Settings(
                    init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _SECONDS_TO_CONNECT)),
                    console="off",
                    silent=True,
                    disable_git=True,  # provenance.json has it, without the credentials of the remote
                    save_code=False,
                    x_stats_pid=os.getppid(),  # the process that trains
                ),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise PermanentTrackerError(str(error)) from None
        except Exception as error:
            wandb.teardown()  # the id would stay in use
            raise TemporaryTrackerError(f"does not answer: {error}") from None
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        return int(self._run.starting_step) - 1

    def send(self, entries: Sequence[MetricEntry]) -> None:
        for entry in entries:
            values = {**entry.metrics, "epoch": entry.epoch, "step": entry.step, "_timestamp": entry.seconds}
            self._run.log(values, step=entry.step, commit=True)

    def finish(self, outcome: Outcome, results: MetricEntry | None, files: Sequence[Path]) -> None:
        if results is not None:
            self._run.summary.update(dict(results.metrics))
        if files:
            artifact = self._wandb.Artifact(f"run-{self._run.id}-results", "results")
            for path in files:
                artifact.add_file(str(path))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if outcome == "completed" else 1)
        if self._mode == "offline":
            for path in self._earlier:
                shutil.rmtree(path, ignore_errors=True)
