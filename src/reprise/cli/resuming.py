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
    directory = open_run(run_dir)
    saved = ExperimentConfig.load(directory.config)
    config = with_overrides(saved, overrides, trusted_packages, directory.hydra / "config.yaml")
    return train.resume(run_dir, config, trusted_packages)
