"""Shows the metrics in TensorBoard."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from reprise.callbacks import Run
from reprise.callbacks.tracking import Tracker
from reprise.metrics import MetricEntry


class TensorBoard(Tracker):
    """Writes event files to `logs/tensorboard`. TensorBoard is imported with the first metrics, not before."""

    def __init__(self) -> None:
        self._writer: Any = None

    def folder(self, run: Run) -> Path:
        return run.directory.tensorboard

    def send(self, entries: Sequence[MetricEntry]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted attempt wrote from this step on is hidden: it is written again.
            self._writer = SummaryWriter(str(self._record.parent), purge_step=entries[0].step)
        for entry in entries:
            seconds = datetime.fromisoformat(entry.timestamp).timestamp()
            for name, value in entry.metrics.items():
                self._writer.add_scalar(name, value, entry.step, walltime=seconds)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
