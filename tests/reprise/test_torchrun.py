"""What a user sees of `torchrun`: real processes, one directory, one voice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import differences, run_facts
from tiny_runs import TINY, TRAIN

from reprise.runs.run_directory import RunDirectory

LIMIT = 300.0
ARGUMENTS = (*TINY, "run_id=run", "num_threads=1", "training.num_microbatches=2", "training.checkpoint_every_steps=2")


def start(num_processes: int, output_dir: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a run, by `torchrun` if there are several processes."""
    command = [sys.executable]
    if num_processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
    return subprocess.Popen(
        [*command, str(TRAIN), *ARGUMENTS, f"output_dir={output_dir}", *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def process_of_rank(launcher: int, rank: int) -> int:
    """Return the process that a running `torchrun` has started for a rank."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"\0RANK={rank}\0".encode() in b"\0" + (path / "environ").read_bytes():
                return int(path.name)
        except OSError:
            continue
    raise LookupError(f"no process of rank {rank}")


def test_a_mistake_under_torchrun_is_said_once_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(2, tmp_path / "outputs", "training.epochs=3")
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (1, "")  # that of torchrun; the processes ended with 2
    assert err.count("Error: 1 problem in the config") == err.count("unknown; did you mean") == 1
    assert "exitcode  : 2" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_run_under_torchrun_is_that_of_one_process_in_one_directory(tmp_path: Path) -> None:
    one, two = start(1, tmp_path / "one"), start(2, tmp_path / "two")
    (_, _), (out, err) = one.communicate(timeout=LIMIT), two.communicate(timeout=LIMIT)
    assert (one.returncode, two.returncode, err) == (0, 0, "")
    run = tmp_path / "two" / "experiments" / "base" / "run"
    assert out.splitlines()[-1] == str(run)
    assert out.count(str(run)) == 2  # at the start and at the end
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    assert differences(run_facts(tmp_path / "one" / "experiments" / "base" / "run"), run_facts(run)) == []


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_takes_a_run_under_torchrun_down_and_the_next_start_resumes(
    tmp_path: Path, rank: int
) -> None:
    long = ("training.max_epochs=400", "callbacks.checkpoints.background=false")
    process = start(2, tmp_path, *long)
    run = RunDirectory(tmp_path / "experiments" / "base" / "run")
    started = time.monotonic()
    while not run.last_checkpoint.exists() and time.monotonic() - started < LIMIT:
        time.sleep(0.1)
    os.kill(process_of_rank(process.pid, rank), signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert "Signal 9 (SIGKILL)" in err
    again = start(2, tmp_path, *long)
    while run.read_status()["attempts"][-1]["from_step"] == 0 and time.monotonic() - killed < LIMIT:
        time.sleep(0.1)
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    attempts = run.read_status()["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["interrupted", "interrupted"]
    assert attempts[1]["from_step"] > 0
    assert attempts[1]["reason"].startswith("Interrupted: by SIGTERM")
