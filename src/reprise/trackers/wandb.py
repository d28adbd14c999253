"""Shows the run in Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from reprise.config import PositiveFloat
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.remote import RemoteTracker


class WandB(RemoteTracker):
    """`mode`: online; offline writes files for `wandb sync` at the end of each attempt; None is as WANDB_MODE says.

    The key is that of `wandb login` or WANDB_API_KEY; no setting takes one, since settings are written down.
    """

    package = "wandb"
    destination = "reprise.trackers.destinations.wandb.WandBDestination"

    def __init__(
        self,
        project: str,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        tags: Sequence[str] = (),
        seconds_at_end: PositiveFloat = 60.0,
        seconds_when_stopped: PositiveFloat = 10.0,
    ) -> None:
        arguments = {"project": project, "entity": entity, "mode": mode, "tags": list(tags)}
        super().__init__(seconds_at_end, seconds_when_stopped, **arguments)

    def folder(self, directory: RunDirectory) -> Path:
        return directory.wandb

    @property
    def sync_arguments(self) -> dict[str, Any]:
        return {"mode": "online"}
