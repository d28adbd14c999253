"""What a run makes after training, each part by itself: one that cannot be made takes no other with it.

The weights are in the checkpoints by then, so the run counts as completed; what is missing stands in `status.json`, and
the same command makes it, without training again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprise.errors import Incomplete
from reprise.files.disk import translate_disk_errors
from reprise.runs.attempt_record import missing_parts
from reprise.runs.run_directory import RunDirectory
from reprise.runs.stages import RunBeforeTraining

EXPORT, FORMATS = "export", "export: further formats"
"""Names of parts that `scripts/export.py` makes, too."""

logger = logging.getLogger(__name__)


@contextmanager
def making(run: RunBeforeTraining, part: str) -> Iterator[None]:
    """Record in `run.missing` what goes wrong inside the block, and go on. Signals are raised.

    `part`: a key of the config, or the name of a file, as a message gives it.
    """
    try:
        with translate_disk_errors(run.directory.path):
            yield
    except Exception as error:
        logger.error("%s: %s: %s", part, type(error).__name__, error, exc_info=error)
        run.missing.setdefault(part, error)


def refuse_missing(run_dir: str | Path) -> None:
    """Raise Incomplete if something that follows training is missing in a run."""
    if missing := missing_parts(RunDirectory(run_dir)):
        reasons = "; ".join(f"{part} ({reason})" for part, reason in missing.items())
        raise Incomplete(
            f"{run_dir} is trained, and this is missing: {reasons}. scripts/resume.py {run_dir} makes it, and trains "
            "nothing again"
        )
