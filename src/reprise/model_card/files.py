"""Reads the files of a run without torch, as plain values; what is not there is empty."""

import json
from dataclasses import dataclass
from pathlib import Path

from reprise.config import InputError
from reprise.json_file import read_object
from reprise.lookup import numbers

__all__ = ["Entry", "read_history", "read_object"]


@dataclass(frozen=True)
class Entry:
    """A `reprise.metrics.MetricEntry`, which cannot be imported without importing torch."""

    epoch: int
    step: int
    metrics: dict[str, float]


def read_history(path: Path) -> list[Entry]:
    """Return the entries of a metrics file; a last line that is still being written is left out."""
    entries = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        for line in lines:
            values = json.loads(line)
            entries.append(Entry(int(values["epoch"]), int(values["step"]), numbers(values["metrics"])))
    except FileNotFoundError:
        return []
    except (RecursionError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: line {len(entries) + 1} is not an entry of metrics ({error})") from None
    return entries
