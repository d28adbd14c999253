"""The only place that writes `provenance.json`."""

from collections.abc import Callable, Mapping
from typing import Any

from reprise.files.atomic_file import atomic_file, write_json
from reprise.runs.provenance import determinism_in_force, read_provenance, remember_patch
from reprise.runs.run_directory import RunDirectory


class ProvenanceFile:
    """Adds facts about a run while it is executed; those of earlier attempts stay.

    `facts`: what `collect_provenance` returned. `patch`: from the recorded commit to the code in
    use. Of several processes only the first one writes: in the others `is_writable` is false.
    """

    def __init__(
        self,
        directory: RunDirectory,
        facts: Mapping[str, Any] | None = None,
        patch: bytes | None = None,
        is_writable: bool = True,
    ) -> None:
        self._directory = directory
        self._facts = dict(facts or {})
        self._patch = patch
        self._is_writable = is_writable

    def begin(self) -> None:
        """Read what is recorded already, or write the first facts, and the patch."""
        path = self._directory.provenance
        if not self._is_writable:
            return
        if path.exists():
            self._facts = read_provenance(path)
            return
        if self._patch is not None:
            with atomic_file(self._directory.code_patch) as file:
                file.write(self._patch)
            remember_patch(self._patch)
        self._write(self._facts)

    def add_parts(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Add the facts that `describe` returns, and the settings in force."""
        if self._is_writable:
            self._facts = {**describe(), **self._facts}
            self.add_operation()

    def add_operation(self, *operations: str) -> None:
        """Add operations that have no deterministic implementation to those of all attempts."""
        recorded = self._facts.get("determinism", {})
        known = recorded.get("nondeterministic_operations", [])
        recorded = {**determinism_in_force(), **recorded, "nondeterministic_operations": sorted({*known, *operations})}
        self._write(self._facts | {"determinism": recorded})

    def set_cost(self, cost: Mapping[str, Any]) -> None:
        """Record the cost of the run, in place of that before it was extended."""
        self._write(self._facts | {"cost": dict(cost)})

    def _write(self, facts: dict[str, Any]) -> None:
        if self._is_writable:
            write_json(self._directory.provenance, facts)
            self._facts = facts
