"""`.reprise.json` in an adopted project: the engine that was taken last, file by file.

It is committed, so that it also serves a copy that shares no history with the template.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reprise.errors import InputError
from reprise.tools.ownership.halves import PYPROJECT, RECORD, is_engine, is_shared
from reprise.tools.ownership.work_tree import Entry, File, text_file

_ABOUT = (
    "The engine of this project, as scripts/adopt.py or scripts/update.py took it. The next update compares with it."
)


@dataclass(frozen=True)
class Record:
    version: str
    """`reprise.__version__`."""
    commit: str | None
    """The template's commit; None where the project was adopted, since a copy may have a history of its own."""
    template: str | None
    """Where updates come from, if nothing else is given."""
    files: Mapping[str, str]
    """The git blob id of each of the template's files that is not the user's."""
    pyproject: Mapping[str, Any]
    """The template's `pyproject.toml`."""

    def file(self) -> File:
        values = {"about": _ABOUT, **asdict(self), "files": dict(sorted(self.files.items()))}
        return text_file(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def recorded_files(tree: Mapping[str, Entry]) -> dict[str, str]:
    """Return the blob ids of the files that are the engine's or shared."""
    return {p: entry.blob for p, entry in tree.items() if p == PYPROJECT or is_engine(p) or is_shared(p)}


def read_record(file: File) -> Record:
    """Return what a record says.

    Raises:
        InputError: if it was changed by hand into something else.
    """
    try:
        values = json.loads(file.content)
        record = Record(**{name: values[name] for name in ("version", "commit", "template", "files", "pyproject")})
        is_right = all(isinstance(value, dict) for value in (record.files, record.pyproject))
        is_right = is_right and isinstance(record.version, str) and isinstance(record.template, str | None)
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right:
        raise InputError(f"{RECORD}: not as scripts/adopt.py wrote it; git has the version that was committed first")
    return record
