"""Sends to the trackers of a run what they have missed, from `metrics.jsonl`."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from reprise.callbacks import Callback, Outcome
from reprise.config import ExperimentConfig
from reprise.errors import Failure, InputError
from reprise.files.json_file import read_object
from reprise.runs.building import build_callbacks
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.runs.stages import RunBeforeTraining
from reprise.trackers.base import Tracker
from reprise.trackers.remote import RemoteTracker


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
        config = replace(ExperimentConfig.load(directory.config), trusted_packages=list(options.trust))
        trackers = build_callbacks(replace(config, callbacks={}))
        if not trackers:
            raise InputError(f"{directory.path}: the run has no tracker, so there is nowhere to send it")
        failed = [name for name, tracker in trackers.items() if not _sync(name, tracker, directory, config, options)]
    if failed:
        raise Failure(f"{', '.join(failed)}: not everything has arrived; the same command tries again")


def _sync(
    name: str, tracker: Callback, directory: RunDirectory, config: ExperimentConfig, options: argparse.Namespace
) -> bool:
    outcome = _outcome(directory.read_status())
    if isinstance(tracker, RemoteTracker):
        has_arrived = tracker.sync(directory, outcome, options.timeout)
    else:
        results = read_object(directory.metrics) or None
        run = RunBeforeTraining(
            directory=directory,
            config=config.to_dict(),
            seed=config.seed,
            callbacks={name: tracker},
            results=results,
        )
        tracker.on_run_start(run)
        tracker.on_close(run, outcome)
        has_arrived = not (isinstance(tracker, Tracker) and tracker.failed)
    if has_arrived:
        print(f"{name}: has everything")
    return has_arrived


def _outcome(status: Mapping[str, Any]) -> Outcome:
    """Return how the run ended; nobody works on it, so one that seems to be running was killed."""
    recorded = status.get("status")
    return "interrupted" if recorded in (None, "running") else cast(Outcome, recorded)
