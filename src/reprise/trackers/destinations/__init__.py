"""Shows runs elsewhere: on a server of W&B or MLflow. `metrics.jsonl` remains the truth; what is shown is a copy of it.

All of this runs in a process of its own (`worker`), beside training or for `scripts/sync.py`: training never waits for
a server, and imports nothing of theirs. What was sent is asked of the server itself and written down nowhere else, so
that no line is sent twice and none is left out, whenever either side is killed. Nothing here imports torch.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reprise.runs.metrics_log import MetricEntry
from reprise.runs.run_directory import RunDirectory

Outcome = Literal["completed", "interrupted", "failed"]
"""As in `reprise.callbacks`, which imports torch."""


@dataclass(frozen=True)
class TrackedRun:
    """What a destination is told about a run."""

    directory: RunDirectory
    config: Mapping[str, Any]
    pid: int
    """The process that trains."""

    @property
    def name(self) -> str:
        return self.directory.run_id

    @property
    def experiment(self) -> str:
        return str(self.config["experiment_name"])

    @property
    def group(self) -> str | None:
        """The sweep that the run is a job of."""
        sweep_id: str | None = self.config.get("sweep_id")
        return sweep_id

    @property
    def files(self) -> list[Path]:
        """The files that tell what the run came to, as far as they are there."""
        run = self.directory
        texts = (run.model_card, run.config, run.metrics, run.predictions)
        return [*(path for path in texts if path.is_file()), *run.plots]


class Destination(abc.ABC):
    """Where one run is shown: the whole interface between a run and a tracker.

    Any method but the constructor may raise `TemporaryTrackerError`, and is then called again later, or
    `PermanentTrackerError`.
    """

    is_live = True
    """Whether lines are to be sent while training goes on, rather than all of them at the end."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Import what is needed. Called while data and model are built; the run may still turn out to be impossible."""

    @abc.abstractmethod
    def open(self, run: TrackedRun) -> int:
        """Find the run there, or create it, and tell its parameters; return the last step shown, -1 if there is none.

        Lines up to this step are never sent again, since a step that is done again comes out the same.
        """

    @abc.abstractmethod
    def send(self, lines: Sequence[MetricEntry]) -> None:
        """Show these lines, of which some may have arrived already if it failed before."""

    @abc.abstractmethod
    def finish(self, outcome: Outcome, files: Sequence[Path], results: MetricEntry | None) -> None:
        """Say how the run has ended, and keep its files and the figures of the test split with it.

        Returns when everything has arrived. A run that ended may be carried on, and then ends again.
        """
