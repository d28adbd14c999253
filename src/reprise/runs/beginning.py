"""How an attempt at a run begins on disk."""

import logging
from collections.abc import Sequence

from reprise.config import ExperimentConfig
from reprise.files.differences import Difference
from reprise.runs.attempt_record import begin_attempt
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.run_directory import RunDirectory

logger = logging.getLogger(__name__)


class Beginning:
    """How an attempt at a run begins on disk: with its record, the changed config and the facts of `provenance`.

    That of a new run comes first, that of one to be resumed when its state is restored and all changes of the config
    fit: until then no file changes.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: ExperimentConfig,
        provenance: ProvenanceFile,
        changes: Sequence[Difference] = (),
        drift: Sequence[Difference] = (),
    ) -> None:
        self.is_done = False
        self.provenance = provenance
        self.drift = list(drift)
        """Facts about code, machine and data that differ from those at the first start."""
        self._run = run
        self._config = config
        self._changes = changes

    def carry_out(self, with_changes: bool = True) -> None:
        """Begin; without the changes if the attempt has failed before they took effect."""
        self.is_done = True
        changes = self._changes if with_changes else ()
        begin_attempt(self._run, changes, self.drift)
        if changes:
            self._config.save(self._run.config)
        for change in changes:
            logger.info("changed: %s from %r to %r", change.key, change.first, change.second)
        if with_changes:
            self.provenance.release()
