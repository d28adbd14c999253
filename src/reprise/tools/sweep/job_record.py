"""The record of one job of a sweep: the name of its run, and the file that says how it ended."""

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from reprise.config.secrets import hidden_in_text
from reprise.files.atomic_file import write_json
from reprise.runs.run_directory import Status
from reprise.runs.sweep_directory import PRUNED, SweepDirectory
from reprise.tools.variants import PLACE_KEYS

JobRecord = dict[str, Any]
"""How a job ended, in plain values, as recorded: `run_id`, `overrides`, `status`, `reason`, `traceback`, `run_dir`
(relative to the sweep), `monitor` (`metric`, `mode`, `value` at the best checkpoint), `metrics` (flat name → number; of
the best checkpoint, on the validation and the test split), `ended`."""


def run_id_of(sweep_id: str, overrides: Sequence[str]) -> str:
    """Return the name of the run with these overrides; their order does not count, so a grown grid finds its runs."""
    lines = [line.lstrip("+") for line in overrides]
    named = "\n".join(sorted(line for line in lines if line.split("=")[0] not in PLACE_KEYS))
    return f"{sweep_id}-{hashlib.blake2b(named.encode(), digest_size=5).hexdigest()}"


def record_job(
    directory: SweepDirectory,
    run_id: str,
    overrides: Sequence[str],
    status: Status,
    reason: str | None = None,
    trace: str | None = None,
) -> JobRecord:
    """Write down how a job ended, together with the figures that its run came to, and return that."""
    run = directory.run(run_id)
    if status == "completed" and str(why := run.read_status().get("reason")).startswith(PRUNED):
        reason = why
    results = json.loads(run.metrics.read_text()) if status == "completed" and run.metrics.exists() else {}
    outcome = {
        "run_id": run_id,
        "overrides": list(map(hidden_in_text, overrides)),
        "status": status,
        "reason": reason and hidden_in_text(reason),
        "traceback": trace and hidden_in_text(trace),
        "run_dir": os.path.relpath(run.path, directory.path) if run.path.exists() else None,
        "monitor": results.get("monitor"),
        "metrics": {**results.get("validation_metrics", {}), **results.get("metrics", {})},
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(directory.record(run_id), outcome)
    return outcome
