"""Kill it anywhere: whatever the instant of a SIGKILL, the same command ends with the same bytes.

The instants are all calls that write to disk, and all forward passes: `pytest -m long tests/test_kill.py` takes every
one of them, the ordinary suite some.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import compose
from harness import EVERYTHING, count_calls, differences, kill_at_call, run_facts, train_in_child

import reprise.evaluation
import reprise.loop
from reprise.train import train

# The system calls that change files, and what comes before every forward pass, in training and in evaluation.
PLACES: list[tuple[Any, str]] = [
    (os, "write"),
    (os, "mkdir"),
    (os, "fsync"),
    (os, "replace"),
    (os, "rename"),
    (os, "ftruncate"),
    (reprise.loop, "seed_globals"),
    (reprise.evaluation, "seed_globals"),
]
NUM_INSTANTS = 122
SOME = range(1, NUM_INSTANTS, 9)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """Return the facts of the run that is left alone, and how many instants there are."""
    path = tmp_path_factory.mktemp("whole")
    with count_calls(PLACES) as calls:
        run = train(compose(*EVERYTHING, f"output_dir={path}", "run_id=run"))
    return run_facts(run), len(calls)


def test_instants_cover_the_whole_run(whole_run: tuple[dict[str, Any], int]) -> None:
    assert whole_run[1] == NUM_INSTANTS


@pytest.mark.parametrize(
    "instant",
    [pytest.param(n, marks=() if n in SOME else pytest.mark.long) for n in range(1, NUM_INSTANTS + 1)],
)
def test_run_killed_at_this_instant_ends_with_the_same_bytes(
    instant: int, whole_run: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    overrides = (*EVERYTHING, f"output_dir={tmp_path}", "run_id=run")
    status = train_in_child(overrides, kill_at_call(instant, PLACES))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    run = train(compose(*overrides))
    assert differences(run_facts(run), whole_run[0]) == []


def test_run_killed_again_and_again_ends_with_the_same_bytes(
    whole_run: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    overrides = (*EVERYTHING, f"output_dir={tmp_path}", "run_id=run")
    num_kills = 0
    # Each attempt gets further than the one before, since it starts from a later checkpoint.
    while os.WIFSIGNALED(train_in_child(overrides, kill_at_call(50, PLACES))):
        num_kills += 1
    assert num_kills > 1
    assert differences(run_facts(tmp_path / "experiments" / "base" / "run"), whole_run[0]) == []
