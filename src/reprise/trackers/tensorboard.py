"""Shows the run in TensorBoard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprise.callbacks import StartedRun
from reprise.private_names.tensorboard import file_writer
from reprise.runs.metrics_log import MetricEntry
from reprise.trackers.base import Tracker
from reprise.trackers.destinations.parameters import parameters


class TensorBoard(Tracker):
    """Writes event files to `logs/tensorboard`. TensorBoard is imported with the first metrics, not before."""

    def __init__(self) -> None:
        self._writer: Any = None

    def folder(self, run: StartedRun) -> Path:
        return run.directory.tensorboard

    def send(self, entries: Sequence[MetricEntry]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted attempt wrote from this step on is hidden: it is written again. With a short queue
            # this thread and that of the writer would wait for each other at every line.
            folder = str(self.record_path.parent)
            self._writer = SummaryWriter(folder, purge_step=entries[0].step, max_queue=2**14)
        for entry in entries:
            self._write(entry.metrics, entry.step, entry.seconds)
        self._writer.flush()

    def send_results(self, run: StartedRun, last: MetricEntry) -> None:
        from torch.utils.tensorboard.summary import hparams

        if self._writer is None:
            self.send([last])
        results = run.results or {"metrics": {}, "step": last.step}
        self._write(results["metrics"], last.step, last.seconds)
        values = {name: _single_value(value) for name, value in parameters(run.config).items() if value is not None}
        # `SummaryWriter.add_hparams` would write the metrics once more, without a step.
        names = dict.fromkeys([*last.metrics, *results["metrics"]], 0.0)
        for summary in hparams(values, names):  # type: ignore[no-untyped-call]
            file_writer(self._writer).add_summary(summary)
        rows = "".join(f"| `{name}` | `{value}` |\n" for name, value in values.items())
        self._writer.add_text("parameters", f"| Key | Value |\n|---|---|\n{rows}", last.step)
        if run.directory.model_card.exists():
            card = run.directory.model_card.read_text(encoding="utf-8")
            body = (card.partition("\n---\n")[2] or card).lstrip()  # TensorBoard would show the metadata as text
            self._writer.add_text("model_card", body, last.step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, metrics: dict[str, float], step: int, seconds: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # All metrics of a line are one event: `SummaryWriter.add_scalar` takes far longer, and makes one of each.
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        file_writer(self._writer).add_summary(Summary(value=values), step, walltime=seconds)


def _single_value(value: Any) -> str | int | float | bool:
    """Return a parameter as TensorBoard takes it, which are single values only."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
