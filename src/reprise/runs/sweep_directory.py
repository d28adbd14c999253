"""The names of all files of a sweep; creates and opens sweeps."""

import time
from pathlib import Path

from reprise.config.names import SWEEPS, name_problem
from reprise.errors import ConfigError, Problem
from reprise.runs.run_directory import RunDirectory, find_run, make_named

PRUNED = "pruned"
"""The reason why a run that a search ended early is complete begins with this."""


class SweepDirectory:
    """The files of one sweep; its runs lie beside those that were started singly."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.definition = self.path / "sweep.json"
        self.records = self.path / "jobs"
        self.submitit = self.path / "submitit"
        self.study = self.path / "study.db"
        self.summary = self.path / "summary.json"
        self.summary_csv = self.path / "summary.csv"
        self.summary_markdown = self.path / "summary.md"
        self.summary_latex = self.path / "summary.tex"
        self.summary_plot = self.path / "summary.svg"

    @property
    def sweep_id(self) -> str:
        return self.path.name

    @property
    def experiment_name(self) -> str:
        return self.path.parent.parent.name

    def remove_leftovers(self) -> None:
        """Remove what a killed process was still writing; another one may be writing now, in far less than a minute."""
        for folder in (self.path, self.records):
            for path in folder.glob(".*.tmp"):
                if time.time() - path.stat().st_mtime > 60:
                    path.unlink(missing_ok=True)

    def record(self, run_id: str) -> Path:
        """Return where it is recorded how the job of this run ended."""
        return self.records / f"{run_id}.json"

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.path.parent.parent / run_id)


def sweep_of(run: RunDirectory, sweep_id: str | None) -> SweepDirectory | None:
    """Return where the sweep lies, or would lie, that a run belongs to; None if it belongs to none."""
    return None if sweep_id is None else SweepDirectory(run.path.parent / SWEEPS / sweep_id)


def create_or_open_sweep(base_dir: str | Path, experiment_name: str, sweep_id: str | None) -> SweepDirectory:
    """Return the sweep of these names, made if there is none; without a `sweep_id` it gets a name like that of a run.

    Raises:
        ConfigError: if a name could be hidden or lead elsewhere.
    """
    if sweep_id is not None and (message := name_problem(sweep_id)):
        raise ConfigError([Problem("sweep_id", message)])
    sweeps = find_run(base_dir, experiment_name, "any").parent / SWEEPS
    try:
        sweep = SweepDirectory(make_named(sweeps, sweep_id))
    except FileExistsError:
        assert sweep_id is not None
        sweep = SweepDirectory(sweeps / sweep_id)
    sweep.records.mkdir(exist_ok=True)
    return sweep
