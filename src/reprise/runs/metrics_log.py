"""Records metrics as JSON lines, and reads them back; imports no torch."""

import collections
import contextlib
import functools
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from reprise.errors import InputError

_ENCODER = json.JSONEncoder(allow_nan=False)
_quoted = json.encoder.encode_basestring_ascii


def _number(value: float) -> str:
    return float.__repr__(value) if type(value) is float and math.isfinite(value) else _ENCODER.encode(value)


class MetricEntry(NamedTuple):
    """One line of `metrics.jsonl`."""

    timestamp: str
    """ISO 8601, UTC."""
    epoch: int
    """From 1."""
    step: int
    """Optimizer steps done."""
    metrics: dict[str, float]
    """Flat names such as `train/loss`; finite numbers."""

    @property
    def seconds(self) -> float:
        """When it was logged, since the epoch of Unix time."""
        return datetime.fromisoformat(self.timestamp).timestamp()

    def to_json(self) -> str:
        # As `json.dumps(self._asdict(), allow_nan=False)`, in two thirds of the time: every step may have a line.
        values = ", ".join([f"{_quoted(name)}: {_number(value)}" for name, value in self.metrics.items()])
        where = f'"timestamp": {_quoted(self.timestamp)}, "epoch": {self.epoch}, "step": {self.step}'
        return f'{{{where}, "metrics": {{{values}}}}}'

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the entry that `to_json` wrote.

        Raises:
            ValueError: if it is something else.
        """
        try:
            entry = cls(**json.loads(line))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        is_entry = isinstance(entry.timestamp, str) and isinstance(entry.metrics, dict)
        if not is_entry or {type(entry.epoch), type(entry.step), *map(type, entry.metrics.values())} - {int, float}:
            raise ValueError("expected a timestamp, epoch, step and metrics that are numbers")
        return entry


class MetricsLogger:
    """Appends metrics to a file of JSON lines, each of them there for readers as soon as `log` returns."""

    def __init__(self, log_path: str | Path) -> None:
        self._path = Path(log_path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def log(self, epoch: int, step: int, metrics: Mapping[str, float]) -> MetricEntry:
        """Append one line.

        Raises:
            ValueError: if a metric is not a finite number.
        """
        values = {}
        for name, metric in metrics.items():
            value = float(metric)
            if not math.isfinite(value):
                raise ValueError(f"metric {name!r} at step {step}: expected a finite number, got {value!r}")
            values[name] = value
        entry = MetricEntry(timestamp(time.time()), epoch, step, values)
        self.append([entry])
        return entry

    def append(self, entries: Iterable[MetricEntry]) -> None:
        """Append a line for each entry, all of them at once."""
        lines = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]

    @property
    def length(self) -> int:
        """Length of the file in bytes."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, length: int) -> None:
        """Cut the file back to an earlier length.

        Raises:
            ValueError: if the file is shorter than that.
        """
        self.check_length(length)
        os.ftruncate(self._descriptor, length)

    def check_length(self, length: int) -> None:
        """Raise a ValueError if the file is shorter than it was."""
        if self.length < length:
            raise ValueError(
                f"{self._path}: expected at least {length} bytes, found {self.length}; lines have been lost"
            )

    def close(self) -> None:
        os.close(self._descriptor)


def timestamp(seconds: float) -> str:
    """Return a time in seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    milliseconds = int(seconds * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}+00:00"


@functools.lru_cache(1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def read_metrics(log_path: str | Path, prefix: str = "") -> Iterator[MetricEntry]:
    """Yield the entries of a metrics file; none if there is no file.

    Of a log of many lines the few that are wanted are found fast: with a `prefix`, those with a metric whose name
    begins so. A last line that is still being written is left out.

    Raises:
        InputError: if a line is no entry.
    """
    beginning = json.dumps(prefix)[:-1]
    for number, line in _lines(log_path):
        if not prefix or beginning in line:
            entry = _entry(log_path, number, line)
            if not prefix or any(name.startswith(prefix) for name in entry.metrics):
                yield entry


def last_metrics(log_path: str | Path) -> MetricEntry | None:
    """Return the last entry of a metrics file, None if there is none.

    Raises:
        InputError: if that line is no entry.
    """
    last = collections.deque(_lines(log_path), maxlen=1)
    return _entry(log_path, *last[0]) if last else None


def _lines(log_path: str | Path) -> Iterator[tuple[int, str]]:
    with contextlib.suppress(FileNotFoundError), Path(log_path).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.endswith("\n"):
                yield number, line


def _entry(log_path: str | Path, number: int, line: str) -> MetricEntry:
    try:
        return MetricEntry.from_json(line)
    except ValueError as error:
        raise InputError(f"{log_path}, line {number}: not an entry of metrics ({error})") from None


def read_metrics_from(log_path: str | Path, offset: int) -> tuple[list[MetricEntry], int]:
    """Return the whole entries of a metrics file from byte `offset` on, and the offset behind the last of them."""
    try:
        with Path(log_path).open("rb") as file:
            file.seek(offset)
            lines, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], offset
    entries = [MetricEntry.from_json(line) for line in lines.decode().splitlines()]
    return entries, offset + len(lines) + len(newline)
