"""Resumes a run with changes given as KEY=VALUE."""

from collections.abc import Sequence
from pathlib import Path

from reprise.cli.composing import with_overrides
from reprise.config import ExperimentConfig
from reprise.runs import train
from reprise.runs.run_directory import open_run


def resume(run_dir: str | Path, overrides: Sequence[str] = (), trusted_packages: Sequence[str] = ()) -> Path:
    """Resume a run from its own saved config, with some keys changed, and return its directory.

    `overrides`: as on the command line. `trusted_packages`: as of `reprise.runs.train.resume`.

    Raises:
        InputError: if there is no run, or the changes cannot be made.
        Interrupted: if a signal stopped it after saving.
    """
    saved = ExperimentConfig.load(open_run(run_dir).config)
    return train.resume(run_dir, with_overrides(saved, overrides, trusted_packages), trusted_packages)
