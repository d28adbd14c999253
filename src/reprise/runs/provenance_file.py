"""The only place that writes `provenance.json`."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from reprise.files.atomic_file import atomic_file, write_json
from reprise.runs.provenance import determinism_in_force, read_provenance, remember_patch
from reprise.runs.run_directory import RunDirectory

Known = Literal["all", "weights", "none"]


class ProvenanceFile:
    """Adds facts about a run while it is executed; those of earlier attempts stay.

    `facts`: what `collect_provenance` returned. `patch`: from the recorded commit to the code in
    use. Of several processes only the first one writes: in the others `is_writable` is false. While it `is_held`,
    nothing is written, until `release`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        facts: Mapping[str, Any] | None = None,
        patch: bytes | None = None,
        is_writable: bool = True,
        is_held: bool = False,
    ) -> None:
        self._directory = directory
        self._facts = dict(facts or {})
        self._patch = patch
        self._is_writable = is_writable
        self._is_held = is_held

    def begin(self) -> None:
        """Read what is recorded already, or write the first facts, and the patch."""
        if not self._is_writable:
            return
        if self._directory.provenance.exists():
            self._facts, self._patch = read_provenance(self._directory.provenance), None
        elif not self._is_held:
            self._write_patch()
            self._write(self._facts)

    def release(self) -> None:
        """Write what has been added so far, and from now on at once."""
        if self._is_held:
            self._is_held = False
            self._write_patch()
            self._write(self._facts)

    def add_parts(self, describe: Callable[[], Mapping[str, Any]], known: Known = "all") -> None:
        """Add the facts that `describe` returns, and the settings in force.

        `known`: which of those that are recorded stay: all; of data, model and settings none but the hash of the
        initial weights, where a changed config has other parts from now on; or none of them.
        """
        if not self._is_writable:
            return
        described, recorded = dict(describe()), self._facts
        if known == "weights":
            initial = {"initial_sha256": recorded["model"]["initial_sha256"]} if "model" in recorded else {}
            described["model"] = {**described["model"], **initial}
        self._facts = {**described, **recorded} if known == "all" else {**recorded, **described}
        if known != "all" and "determinism" in recorded:
            self._facts["determinism"] = {**recorded["determinism"], **determinism_in_force()}
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

    def _write_patch(self) -> None:
        if self._is_writable and self._patch is not None:
            with atomic_file(self._directory.code_patch) as file:
                file.write(self._patch)
            remember_patch(self._patch)

    def _write(self, facts: dict[str, Any]) -> None:
        if self._is_writable:
            self._facts = facts
            if not self._is_held:
                write_json(self._directory.provenance, facts)
