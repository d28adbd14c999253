"""Carries out sweeps of tiny runs with the real command; each is called `s`."""

import subprocess
import sys
from pathlib import Path

from tiny_runs import TINY, TRAIN

from reprise.runs.run_directory import RunDirectory


def command(output_dir: Path, *overrides: str) -> list[str]:
    script = str(TRAIN)
    return [sys.executable, script, "-m", *TINY, "num_threads=1", "sweep_id=s", f"output_dir={output_dir}", *overrides]


def sweep(output_dir: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(output_dir, *overrides), capture_output=True, text=True, check=False)


def runs(output_dir: Path) -> dict[str, RunDirectory]:
    """Return the runs of the sweep by their names."""
    return {path.name: RunDirectory(path) for path in (output_dir / "experiments" / "base").glob("s-*")}
