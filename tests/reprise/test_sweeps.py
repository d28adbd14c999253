"""A sweep leaves ordinary runs and what they come to; it can be killed, grown, and hold a job that fails."""

import contextlib
import csv
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import differences, run_facts
from sweeping import command, runs, sweep
from tiny_runs import TINY, compose

from reprise.cli.sweep.job import SweepJob
from reprise.cli.sweep.loky_workers import LokyWorkers
from reprise.cli.sweep.worker_processes import num_cores, num_slots, threads_each
from reprise.config.composed import Composed
from reprise.errors import InputError
from reprise.runs.sweep_directory import create_or_open_sweep

GRID = ("seed=1,2", "training.learning_rate=0.01,0.001")


def directory(output_dir: Path) -> Path:
    return output_dir / "experiments" / "base" / "sweeps" / "s"


def records(output_dir: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (directory(output_dir) / "jobs").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output directory of a sweep of four jobs that was left alone."""
    output_dir = tmp_path_factory.mktemp("whole")
    done = sweep(output_dir, *GRID)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(directory(output_dir))
    return output_dir


def test_a_sweep_leaves_ordinary_runs_a_record_of_each_and_a_summary(whole: Path) -> None:
    found = records(whole)
    assert set(found) == set(runs(whole))
    assert len(found) == 4
    for run_id, record in found.items():
        run = runs(whole)[run_id]
        assert run.read_status()["status"] == record["status"] == "completed"
        assert json.loads(run.config.read_text())["sweep_id"] == "s"
        results = json.loads(run.metrics.read_text())
        assert record["metrics"] == results["validation_metrics"] | results["metrics"]
    names = {path.name for path in directory(whole).iterdir()}
    assert names == {"sweep.json", "jobs", "summary.json", "summary.csv", "summary.md", "summary.tex", "summary.svg"}
    with (directory(whole) / "summary.csv").open() as file:
        assert {row["run_id"] for row in csv.DictReader(file)} == set(found)


def test_jobs_are_grouped_over_seeds_best_first(whole: Path) -> None:
    losses: dict[str, list[float]] = {}
    for record in records(whole).values():
        (rate,) = (line for line in record["overrides"] if line.startswith("training.learning_rate"))
        losses.setdefault(rate, []).append(record["metrics"]["test/loss"])
    expected = sorted((statistics.mean(values), statistics.stdev(values)) for values in losses.values())
    groups = json.loads((directory(whole) / "summary.json").read_text())["groups"]
    found = [(group["metrics"]["test/loss"]["mean"], group["metrics"]["test/loss"]["std"]) for group in groups]
    assert found == [(pytest.approx(mean), pytest.approx(std)) for mean, std in expected]
    assert [len(group["runs"]) for group in groups] == [2, 2]


def test_the_same_command_does_nothing_twice_and_a_grown_grid_only_adds(whole: Path) -> None:
    before = {run_id: run.status.read_bytes() for run_id, run in runs(whole).items()}
    done = sweep(whole, "seed=1,2,3", GRID[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 6 jobs are complete already" in done.stdout
    assert len(runs(whole)) == len(records(whole)) == 6
    assert {run_id: runs(whole)[run_id].status.read_bytes() for run_id in before} == before


def test_a_sweep_that_is_killed_loses_and_repeats_nothing(whole: Path, tmp_path: Path) -> None:
    for position in ("job 1 of 4", "run directory"):
        with subprocess.Popen(command(tmp_path, *GRID), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if position in line:
                    break
            process.send_signal(signal.SIGKILL)
    done = sweep(tmp_path, *GRID)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(runs(tmp_path)) == 4
    for run_id, run in runs(tmp_path).items():
        assert differences(run_facts(run.path), run_facts(runs(whole)[run_id].path)) == []


def test_one_bad_job_does_not_take_the_sweep_down(tmp_path: Path) -> None:
    done = sweep(tmp_path, "training.learning_rate=1e30,0.01", "training.gradient_clip=null")
    assert done.returncode == 1
    assert sorted(record["status"] for record in records(tmp_path).values()) == ["completed", "failed"]
    (failed,) = (record for record in records(tmp_path).values() if record["status"] == "failed")
    assert failed["reason"].startswith("NonFiniteError: ")
    assert "Traceback" in failed["traceback"]
    assert failed["reason"].split(";")[0] in (directory(tmp_path) / "summary.md").read_text()
    assert done.stderr == f"Error: 1 job failed; {directory(tmp_path) / 'summary.md'} says why\n"


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("CUDA out of memory"), SystemExit(1)])
def test_whatever_a_job_raises_is_recorded(tmp_path: Path, error: BaseException) -> None:
    def fail(composed: Composed) -> None:
        raise error

    job = SweepJob(fail, create_or_open_sweep(tmp_path, "base", "s"), ("train.py",))
    job.carry_out(["seed=1"], lambda: compose(*TINY, f"output_dir={tmp_path}"))
    (record,) = records(tmp_path).values()
    assert (record["status"], record["reason"]) == ("failed", f"{type(error).__name__}: {error}")
    assert "in fail\n" in record["traceback"]


def test_the_jobs_of_one_machine_share_its_cores_and_have_a_gpu_each() -> None:
    assert [num_slots(asked, gpus) for asked, gpus in ((None, ["0", "1", "2"]), (5, ["0"]))] == [3, 5]
    assert num_slots(None, []) == num_cores()
    assert threads_each(num_cores() + 1) == threads_each(num_cores()) == 1
    assert threads_each(1) == num_cores()
    with pytest.raises(InputError, match=r"hydra\.launcher\.n_jobs: expected an integer ≥ 1 or null, got 0"):
        num_slots(0, [])


def gpu_of(overrides: list[str]) -> dict[str, Any]:
    return {"run_id": overrides[0], "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}


def test_a_worker_sees_the_gpu_of_its_slot_alone() -> None:
    workers: Any = LokyWorkers(gpu_of, ["3", "GPU-5"])  # type: ignore[arg-type]
    try:
        handles = workers.start([(1, ["a"]), (0, ["b"])])
        while set(workers.ended(handles)) != set(handles):
            pass
        assert [workers.outcome(handle)["gpu"] for handle in handles] == ["GPU-5", "3"]
    finally:
        workers.close()


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_jobs_in_processes_of_this_machine_end_with_the_same_bits(whole: Path, tmp_path: Path, launcher: str) -> None:
    done = sweep(tmp_path, *GRID, f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2")
    assert (done.returncode, done.stderr) == (0, "")
    for run_id, run in runs(tmp_path).items():
        same = runs(whole)[run_id]
        assert differences(run_facts(run.path), run_facts(same.path)) == []


LONGER = ("seed=1,2", "training.max_epochs=30", "training.checkpoint_every_steps=20")


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output directory of a sweep that takes long enough to be stopped, and was left alone."""
    output_dir = tmp_path_factory.mktemp("longer")
    assert sweep(output_dir, *LONGER).returncode == 0
    return output_dir


@pytest.mark.long
@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ("in_process", signal.SIGINT),
        ("joblib", signal.SIGINT),
        ("submitit_local", signal.SIGTERM),
        ("ray", signal.SIGINT),
    ],
)
def test_a_signal_saves_what_is_under_way_on_every_launcher(
    longer: Path, tmp_path: Path, launcher: str, number: signal.Signals
) -> None:
    mark = {"REPRISE_TEST": str(tmp_path)}
    arguments = command(tmp_path, *LONGER, f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2")
    arguments = [argument for argument in arguments if launcher != "in_process" or "n_jobs" not in argument]
    with subprocess.Popen(arguments, stdout=-1, stderr=-1, text=True, env=os.environ | mark) as process:
        wait_for(lambda: any(run.last_checkpoint.exists() for run in runs(tmp_path).values()))
        process.send_signal(number)
        output, errors = process.communicate()
    assert process.returncode == 75, output + errors
    assert errors.endswith("The same command with sweep_id=s carries on.\n"), errors
    assert {run.read_status()["status"] for run in runs(tmp_path).values()} <= {"interrupted", "completed"}
    wait_for(lambda: not processes_with(mark))
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert runs(tmp_path).keys() == runs(longer).keys()
    for run_id, run in runs(tmp_path).items():
        assert differences(run_facts(run.path), run_facts(runs(longer)[run_id].path)) == []


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_jobs_end_when_what_started_them_is_killed(tmp_path: Path, launcher: str) -> None:
    mark = {"REPRISE_TEST": str(tmp_path)}
    arguments = command(tmp_path, "seed=1,2,3", "training.max_epochs=2000", f"hydra/launcher={launcher}")
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=os.environ | mark) as process:
        wait_for(lambda: any(run.last_checkpoint.exists() for run in runs(tmp_path).values()))
        process.kill()
    wait_for(lambda: not processes_with(mark))


def processes_with(mark: dict[str, str]) -> list[str]:
    """Return the processes, other than this one, whose environment has these variables."""
    wanted = {f"{name}={value}".encode() for name, value in mark.items()}
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted <= set(path.read_bytes().split(b"\0")):
                found.append(path.with_name("cmdline").read_text())
    return found


def wait_for(condition: Callable[[], object]) -> None:
    latest = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.1)  # another process is waited for
