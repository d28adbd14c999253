"""Commands whose standard output is closed, or goes away while they work."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tiny_runs import TINY, TRAIN


def command(output_dir: Path, *more: str) -> list[str]:
    return [sys.executable, str(TRAIN), *TINY, f"output_dir={output_dir}", "run_id=one", *more]


def is_complete(output_dir: Path) -> bool:
    run = output_dir / "experiments" / "base" / "one"
    log = (run / "logs" / "train.log").read_text()
    return '"status": "completed"' in (run / "status.json").read_text() and "best checkpoint" in log


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_run_without_standard_streams_is_complete_and_keeps_its_log(closed: str, tmp_path: Path) -> None:
    shell = f'exec "$@" {closed}'
    done = subprocess.run(["sh", "-c", shell, "sh", *command(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_complete(tmp_path)


def test_run_whose_reader_goes_away_trains_on_quietly(tmp_path: Path) -> None:
    arguments = command(tmp_path, "callbacks.progress.seconds=1e-9")  # a line after each step
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    assert is_complete(tmp_path)


def test_run_whose_terminal_goes_away_trains_on_quietly(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    # Without a controlling terminal no SIGHUP comes: what is left are errors of every write, also of the live view.
    process = subprocess.Popen(command(tmp_path), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert process.wait(timeout=120) == 0
    assert is_complete(tmp_path)


def test_what_is_printed_arrives_and_a_full_disk_is_still_an_error() -> None:
    code = """
        from reprise.cli.command_line import run_command
        run_command(lambda: print("ü" * 100_000))
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ü" * 100_000 + "\n", "")
    full = subprocess.run(["sh", "-c", 'exec "$@" >/dev/full', "sh", *arguments], capture_output=True, text=True)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
