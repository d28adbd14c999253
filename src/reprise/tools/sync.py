"""Sends to the trackers of a run what they have missed, from `metrics.jsonl`."""

import argparse
from dataclasses import replace
from typing import cast

from reprise.callbacks import Outcome
from reprise.config import ExperimentConfig
from reprise.errors import Failure, InputError
from reprise.runs.building import build_callbacks
from reprise.runs.run_directory import open_run
from reprise.trackers.base import Tracker


def sync_run() -> None:
    parser = argparse.ArgumentParser(description="Send to the trackers of a run what they have missed.")
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for each tracker at most; 600 by default"
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that a tracker is from"
    )
    options = parser.parse_args()
    directory = open_run(options.run_dir)
    with directory.locked():
        config = replace(ExperimentConfig.load(directory.config), callbacks={}, trusted_packages=list(options.trust))
        trackers = {name: one for name, one in build_callbacks(config).items() if isinstance(one, Tracker)}
        if not trackers:
            raise InputError(f"{directory.path}: the run has no tracker, so there is nowhere to send it")
        status = directory.read_status().get("status")
        # No process trains the run, so one with the status `running` was killed.
        outcome = cast(Outcome, "interrupted" if status in (None, "running") else status)
        failed = []
        for name, tracker in trackers.items():
            if tracker.sync(directory, outcome, options.timeout):
                print(f"{name}: has everything")
            else:
                failed.append(name)
    if failed:
        raise Failure(f"{', '.join(failed)}: not everything has arrived; the same command tries again")
