"""Sweeps in the queue of a real Slurm cluster, which `tests/reprise/slurm/run` starts and stops."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import differences, run_facts
from sweeping import command, runs, sweep

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "reprise-slurm" not in os.environ.get("SLURM_CONF", ""), reason="run by tests/reprise/slurm/run"
    ),
]

# Long enough to be stopped in the middle.
LONG = ("training.max_epochs=150", "training.checkpoint_every_steps=20")
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10")


def start(output_dir: Path, *overrides: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(command(output_dir, *overrides), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def slurm(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], object]) -> None:
    latest = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < latest, f"never: {condition}; {slurm('squeue')}"
        slurm("squeue")  # which takes the time that a poll should take


def has_steps(output_dir: Path) -> bool:
    return any(run.last_checkpoint.exists() for run in runs(output_dir).values())


def job_in(state: str) -> str:
    """Return the id of the only job in this state, empty if there is none."""
    return slurm("squeue", "--noheader", "--array", "--format=%i", f"--states={state}", "--partition=main").strip()


def attempts(output_dir: Path) -> list[dict[str, object]]:
    (run,) = runs(output_dir).values()
    found: list[dict[str, object]] = run.read_status()["attempts"]
    return found


@pytest.fixture(autouse=True)
def _leave_the_queue_empty() -> Iterator[None]:
    yield
    slurm("scancel", "--user=root")
    wait_for(lambda: not slurm("squeue", "--noheader"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output directory of a sweep of one long job that was left alone, without Slurm."""
    output_dir = tmp_path_factory.mktemp("alone")
    subprocess.run(command(output_dir, *LONG, "seed=1"), check=True, stdout=subprocess.DEVNULL)
    return output_dir


def assert_as_if_left_alone(output_dir: Path, alone: Path) -> None:
    (run,), (expected,) = runs(output_dir).values(), runs(alone).values()
    assert run.run_id == expected.run_id
    assert differences(run_facts(run.path), run_facts(expected.path)) == []


def test_the_jobs_of_a_sweep_are_an_array_and_end_with_the_same_bits(tmp_path: Path) -> None:
    for name, overrides in (("slurm", SLURM), ("here", ())):
        done = sweep(tmp_path / name, "seed=1,2,3", *overrides)
        assert (done.returncode, done.stderr) == (0, "")
        assert "3 jobs: 3 completed" in done.stdout
    for run_id, run in runs(tmp_path / "slurm").items():
        assert differences(run_facts(run.path), run_facts(runs(tmp_path / "here")[run_id].path)) == []
        assert len(run.read_status()["attempts"]) == 1
    assert len(runs(tmp_path / "slurm")) == 3


def test_a_job_that_is_requeued_carries_on_in_its_run_directory(tmp_path: Path, alone: Path) -> None:
    with start(tmp_path, *LONG, "seed=1", *SLURM) as process:
        wait_for(lambda: has_steps(tmp_path))
        slurm("scontrol", "requeue", job_in("running"))
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    first, second = attempts(tmp_path)
    assert (first["status"], second["status"]) == ("interrupted", "completed")
    assert first["to_step"] == second["from_step"] != 0
    assert_as_if_left_alone(tmp_path, alone)


def test_a_job_that_is_pushed_off_the_machine_carries_on_when_there_is_room(tmp_path: Path, alone: Path) -> None:
    with start(tmp_path, *LONG, "seed=1", *SLURM) as process:
        wait_for(lambda: has_steps(tmp_path))
        slurm("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    first, second = attempts(tmp_path)
    assert re.match("Interrupted: by SIGTERM after step", str(first["reason"]))
    assert second["status"] == "completed"
    assert_as_if_left_alone(tmp_path, alone)


@pytest.mark.parametrize("name", ["USR1", "USR2"])
def test_a_job_that_is_told_of_its_end_queues_itself_again(tmp_path: Path, alone: Path, name: str) -> None:
    with start(tmp_path, *LONG, "seed=1", *SLURM) as process:
        wait_for(lambda: has_steps(tmp_path))
        slurm("scancel", f"--signal={name}", job_in("running"))
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    assert [attempt["status"] for attempt in attempts(tmp_path)] == ["interrupted", "completed"]
    assert_as_if_left_alone(tmp_path, alone)


def test_ctrl_c_stops_the_jobs_and_the_same_command_carries_on(tmp_path: Path, alone: Path) -> None:
    with start(tmp_path, *LONG, "seed=1,2,3,4", *SLURM, "hydra.launcher.n_jobs=1") as process:
        wait_for(lambda: has_steps(tmp_path))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 75, output + errors
    assert errors.endswith("The same command with sweep_id=s carries on.\n")
    assert [attempt["status"] for attempt in attempts(tmp_path)] == ["interrupted"]
    done = sweep(tmp_path, *LONG, "seed=1", *SLURM)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(attempts(tmp_path)) == 2
    assert_as_if_left_alone(tmp_path, alone)


def test_jobs_go_on_without_the_command_and_the_same_command_waits_for_them(tmp_path: Path, alone: Path) -> None:
    with start(tmp_path, *LONG, "seed=1", *SLURM) as process:
        wait_for(lambda: has_steps(tmp_path))
        process.kill()
    done = sweep(tmp_path, *LONG, "seed=1", *SLURM)
    assert (done.returncode, done.stderr) == (0, "")
    assert [attempt["status"] for attempt in attempts(tmp_path)] == ["completed"]
    assert_as_if_left_alone(tmp_path, alone)


def test_a_job_that_is_killed_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    with start(
        tmp_path,
        "training.max_epochs=150,2",
        "training.checkpoint_every_steps=20",
        "seed=1",
        *SLURM,
        "hydra.launcher.n_jobs=1",
    ) as process:
        wait_for(lambda: has_steps(tmp_path))
        (attempt,) = attempts(tmp_path)
        os.kill(int(str(attempt["pid"])), signal.SIGKILL)
        output, errors = process.communicate()
    assert process.returncode == 1, output + errors
    records = [json.loads(path.read_text()) for path in tmp_path.glob("experiments/base/sweeps/s/jobs/*.json")]
    assert sorted(record["status"] for record in records) == ["completed", "failed"]
    (failed,) = (record for record in records if record["status"] == "failed")
    assert failed["reason"].startswith("its process ended without a word")
