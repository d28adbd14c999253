"""Shows the run in TensorBoard."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.callbacks import Outcome
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.files.json_values import number_at
from reprise.runs.metrics_log import MetricEntry, last_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.base import Tracker, parameters


class TensorBoard(Tracker):
    """Writes event files to `logs/tensorboard`. TensorBoard is imported with the first metrics, not before."""

    def __init__(self) -> None:
        self._writer: Any = None

    def open(self, directory: RunDirectory) -> int:
        self._directory, self._record = directory, directory.tensorboard / "sent.json"
        self._last, sent = last_metrics(directory.metrics_log), read_object(self._record)
        self._is_finished = sent.get("finished") is True
        # Steps that were cut off are sent again: a config that was changed may have changed them.
        step = number_at(sent, "step")
        return -1 if step is None or self._last is None else min(int(step), self._last.step)

    def send(self, entries: Sequence[MetricEntry]) -> None:
        try:
            if self._writer is None:
                self._open_file(entries[0].step)
            for entry in entries:
                self._add(entry.metrics, entry.step, entry.seconds)
            self._writer.flush()
        except Exception:
            self._close()  # the next file hides what this one got
            raise
        self._last = entries[-1]
        self._note(is_finished=False)

    def finish(self, outcome: Outcome, results: MetricEntry | None, files: Sequence[Path]) -> None:
        last = self._last
        if outcome == "completed" and last is not None and not self._is_finished:
            if self._writer is None:
                self.send([last])
            self._add_results(last, results.metrics if results else {})
            self._writer.flush()
            self._note(is_finished=True)

    def end(self, outcome: Outcome) -> bool:
        try:
            return super().end(outcome)
        finally:
            self._close()

    def _open_file(self, purge_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard import FileWriter

        # With a short queue this thread and that of the writer would wait for each other at every line.
        self._writer = FileWriter(str(self._record.parent), max_queue=2**14)
        # Hides what an earlier attempt wrote from this step on.
        self._writer.add_event(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def _add(self, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        # All metrics of a line are one event: `SummaryWriter.add_scalar` takes far longer, and makes one of each.
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_summary(Summary(value=values), step, walltime=seconds)

    def _add_results(self, last: MetricEntry, results: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams, text

        self._add(results, last.step, last.seconds)
        values = {key: _single(value) for key, value in parameters(self._directory).items() if value is not None}
        # `SummaryWriter.add_hparams` would write the metrics once more, without a step.
        for summary in hparams(values, dict.fromkeys([*last.metrics, *results], 0.0)):  # type: ignore[no-untyped-call]
            self._writer.add_summary(summary)
        rows = "".join(f"| `{key}` | `{value}` |\n" for key, value in values.items())
        texts = {"parameters": f"| Key | Value |\n|---|---|\n{rows}"}
        if self._directory.model_card.exists():
            card = self._directory.model_card.read_text(encoding="utf-8")
            texts["model_card"] = (card.partition("\n---\n")[2] or card).lstrip()  # metadata would be shown as text
        for tag, markdown in texts.items():
            self._writer.add_summary(text(tag, markdown), last.step)  # type: ignore[no-untyped-call]

    def _note(self, is_finished: bool) -> None:
        assert self._last is not None
        self._is_finished = is_finished
        write_json(self._record, {"step": self._last.step, "finished": is_finished})

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _single(value: Any) -> str | int | float | bool:
    """Return a parameter as TensorBoard takes it: lists raise there."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
