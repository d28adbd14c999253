"""The only place that writes `status.json`: the record of the attempts at a run."""

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from reprise.files.atomic_file import write_json
from reprise.files.differences import Difference
from reprise.files.json_file import read_object
from reprise.files.json_values import flattened, mapping_at
from reprise.runs.run_directory import RunDirectory, Status


def begin_attempt(run: RunDirectory, changes: Sequence[Difference] = (), drift: Sequence[Difference] = ()) -> None:
    """Record that this process works on the run from now on.

    `changes`: keys of the config with other values than before; it is written next. `drift`: facts about code and
    machine that differ from those at the first start of the run.
    """
    attempts = run.read_status().get("attempts", [])
    for attempt in attempts:
        if attempt["ended"] is None:
            attempt.update(ended="unknown", status="interrupted", reason="the process did not end by itself")
            if attempt["changes"]:  # it may have been killed before it wrote the config
                made = flattened(read_object(run.config))
                attempt["changes"] = [one for one in attempt["changes"] if made.get(one["key"]) == one["to"]]
    attempt = {
        "started": _now(),
        "ended": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "changes": [{"key": change.key, "from": change.first, "to": change.second} for change in changes],
        "drift": [{"fact": fact.key, "recorded": fact.first, "now": fact.second} for fact in drift],
        "from_step": 0,
        "to_step": None,
        "status": "running",
        "reason": None,
    }
    _write(run, "running", None, [*attempts, attempt])


def resume_attempt_from(run: RunDirectory, step: int) -> None:
    """Record the optimizer step at which this attempt resumes the run."""
    attempts = run.read_status()["attempts"]
    attempts[-1]["from_step"] = step
    _write(run, "running", None, attempts)


def end_attempt(
    run: RunDirectory, status: Status, reason: str, step: int | None, missing: Mapping[str, str] | None = None
) -> None:
    """Record how and why the attempt ended; `step` counts optimizer steps.

    `missing`: why parts that follow training could not be made, by their names.

    Raises:
        FileNotFoundError: if the record is gone.
    """
    attempts = run.read_status().get("attempts")
    if not attempts:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(run.status))
    attempts[-1].update(ended=_now(), to_step=step, status=status, reason=reason)
    _write(run, status, reason, attempts, missing)


def missing_parts(run: RunDirectory) -> dict[str, str]:
    """Return why parts that follow training could not be made, by their names."""
    return {name: str(reason) for name, reason in mapping_at(run.read_status(), "missing").items()}


def record_made(run: RunDirectory, *parts: str) -> None:
    """Record that these parts of a completed run are not missing any more."""
    status = run.read_status()
    missing = {name: reason for name, reason in missing_parts(run).items() if name not in parts}
    _write(run, status["status"], status["reason"], status["attempts"], missing)


def _write(
    run: RunDirectory,
    status: Status,
    reason: str | None,
    attempts: list[dict[str, Any]],
    missing: Mapping[str, str] | None = None,
) -> None:
    lacking = {"missing": dict(missing)} if missing else {}
    write_json(run.status, {"status": status, "reason": reason, **lacking, "attempts": attempts})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
