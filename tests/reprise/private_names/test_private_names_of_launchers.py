"""Fails when a new version of Optuna or loky takes away, or changes, a private name that the engine relies on."""

import os

import pytest

from reprise.private_names.loky import process_ids
from reprise.private_names.optuna import trial_id


def test_a_trial_is_found_in_its_storage_by_its_id() -> None:
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study()
    asked = study.ask()
    assert study._storage.get_trial(trial_id(asked)).number == asked.number
    assert trial_id(study.get_trials()[0]) == trial_id(asked)


def test_the_processes_of_an_executor_are_those_that_do_its_work() -> None:
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(max_workers=1)
    try:
        assert executor.submit(os.getpid).result() in process_ids(executor)
    finally:
        executor.shutdown(kill_workers=True)
