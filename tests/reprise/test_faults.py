"""Signals, full disks and damaged files: real ones. A run keeps working or says what is wrong, and loses nothing."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import EVERYTHING, differences, run_facts, run_in_child
from tiny_runs import TINY, compose

import reprise.runs.attempt
import reprise.runs.persisters.checkpoints
import reprise.tools.model_card.callback
import reprise.training.evaluation
from reprise.errors import CheckpointError, Interrupted, StorageError
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.training.loop import Loop

LONG = pytest.mark.long


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the facts of the run that was left alone."""
    return run_facts(train(compose(*EVERYTHING, f"output_dir={tmp_path_factory.mktemp('reference')}", "run_id=run")))


def at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, action: Callable[[], object]) -> None:
    """Have `action` called before call `number` of a function."""
    original, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            action()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, counted)


def send(name: str) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signal.Signals[name])


def interrupted(path: Path, *overrides: str) -> RunDirectory:
    with pytest.raises(Interrupted):
        train(compose(*EVERYTHING, "run_id=run", f"output_dir={path}", *overrides))
    run = RunDirectory(path / "experiments" / "base" / "run")
    assert run.read_status()["status"] == "interrupted"
    assert not run.lock.exists()
    return run


# Six batches of the validation split after steps 4, 6 (the end of an epoch), 8 and 12 (the end of the run).
@pytest.mark.parametrize(("batch", "step"), [pytest.param(3, 4, marks=LONG), (8, 6), pytest.param(20, 12, marks=LONG)])
def test_signal_in_an_evaluation_saves_what_was_trained_and_the_evaluation_is_done_again(
    batch: int, step: int, reference: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, reprise.training.evaluation, "on_device", batch, send("SIGTERM"))
        run = interrupted(tmp_path)
    assert read_checkpoint(run.last_checkpoint)["step"] == step
    train(compose(*EVERYTHING, "run_id=run", f"output_dir={tmp_path}"))
    assert run.read_status()["attempts"][-1]["from_step"] == step
    assert differences(run_facts(run.path), reference) == []


@pytest.mark.parametrize(
    ("owner", "name", "number", "step"),
    [
        (reprise.runs.attempt, "describe_data", 1, None),
        pytest.param(reprise.runs.attempt, "restore", 1, 0, marks=LONG),
        (reprise.runs.persisters.checkpoints, "write_checkpoint", 1, 3),  # while it saves step 3
        pytest.param(reprise.runs.attempt, "write_results", 1, 12, marks=LONG),
        pytest.param(reprise.training.evaluation, "on_device", 26, 12, marks=LONG),  # in the test split
        (reprise.runs.attempt, "export_model", 1, 12),
        pytest.param(reprise.tools.model_card.callback.ModelCard, "on_run_end", 1, 12, marks=LONG),
    ],
)
def test_signal_in_any_other_phase_stops_at_once_and_the_same_command_ends_with_the_same_bits(
    owner: Any,
    name: str,
    number: int,
    step: int | None,
    reference: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, send("SIGUSR1"))
        run = interrupted(tmp_path)
    assert run.read_status()["attempts"][-1]["to_step"] == step
    assert run.last_checkpoint.exists() == bool(step)
    train(compose(*EVERYTHING, "run_id=run", f"output_dir={tmp_path}"))
    assert differences(run_facts(run.path), reference) == []


def test_second_interrupt_waits_for_nothing_and_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs in the background while the checkpoint of step 6 is written; the second Ctrl-C comes then."""
    fsync, interrupt, num_calls = os.fsync, Loop.interrupt, 0
    was_heard, may_go_on = threading.Event(), threading.Event()

    def hangs(descriptor: int) -> None:
        nonlocal num_calls
        is_background = threading.current_thread() is not threading.main_thread()
        num_calls += is_background
        if is_background and num_calls == 6:
            os.kill(os.getpid(), signal.SIGINT)
            was_heard.wait()
            os.kill(os.getpid(), signal.SIGINT)
            may_go_on.wait()
        fsync(descriptor)

    def heard(self: Loop, reason: str) -> None:
        interrupt(self, reason)
        was_heard.set()

    monkeypatch.setattr(os, "fsync", hangs)
    monkeypatch.setattr(Loop, "interrupt", heard)
    options = ("callbacks.checkpoints.background=true", "training.checkpoint_every_steps=1")
    try:
        with pytest.raises(Interrupted) as stopped:
            train(compose(*EVERYTHING, "run_id=run", f"output_dir={tmp_path}", *options))
        run = RunDirectory(tmp_path / "experiments" / "base" / "run")
        (writer,) = [thread for thread in threading.enumerate() if thread.name == "checkpoint"]
        assert stopped.value.at_once
        assert read_checkpoint(run.last_checkpoint)["step"] >= 1
    finally:
        may_go_on.set()
    writer.join()


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=LONG), "SIGTERM", pytest.param("SIGUSR1", marks=LONG)])
def test_signal_to_all_processes_of_a_job_leaves_loader_workers_at_work_until_the_step_is_saved(
    name: str, tmp_path: Path
) -> None:
    composed = compose(*EVERYTHING, "run_id=run", f"output_dir={tmp_path}", "data.num_workers=2")
    step = Loop._train_step

    def signalled(self: Loop, microbatches: list[Any]) -> None:
        if self.step == 1:
            os.killpg(0, signal.Signals[name])
        step(self, microbatches)

    def job() -> None:
        os.setpgid(0, 0)
        Loop._train_step = signalled  # type: ignore[method-assign]
        try:
            train(composed)
        except Interrupted:
            os._exit(75)

    assert run_in_child(job) == 75
    run = RunDirectory(tmp_path / "experiments" / "base" / "run")
    assert read_checkpoint(run.last_checkpoint)["step"] == 2
    assert run.read_status()["reason"] == f"Interrupted: by {name} after step 2, saved"


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting takes root")
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        pytest.skip("mounting is refused here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 4 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path))
    yield path
    while subprocess.run(["umount", "-l", str(path)], capture_output=True).returncode == 0:
        pass  # a fault may have put another one over it


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def make_read_only(disk: Path) -> None:
    """Put the same files over themselves, read-only: a file that is open for writing bars a change of the mount."""
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    for _ in range(100):  # it is refused while something is being written
        if subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], capture_output=True).returncode == 0:
            return
    raise AssertionError("the mount cannot be made read-only")


def lose(disk: Path) -> None:
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("background", [pytest.param(False, marks=LONG), True])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (fill, "No space left on device"),
        (make_read_only, "Read-only file system"),
        (lose, "No such file or directory"),
    ],
)
def test_disk_that_fails_leaves_the_checkpoint_before_whole_and_is_told_with_path_and_need(
    fault: Callable[[Path], None],
    reason: str,
    background: bool,
    reference: dict[str, Any],
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fault is lose:  # what lies behind the mount is still there afterwards
        (tmp_path / "behind").mkdir()
        _mount("--bind", str(tmp_path / "behind"), str(disk))
    overrides = (f"callbacks.checkpoints.background={str(background).lower()}", f"output_dir={disk}")
    composed = compose(*EVERYTHING, "run_id=run", *overrides)
    with monkeypatch.context() as patch:
        at_call(patch, Loop, "_train_step", 5, lambda: fault(disk))  # last.pt is of step 3, the next is due at step 4
        with pytest.raises(StorageError) as failed:
            train(composed)
    assert reason in str(failed.value)
    assert "checkpoints/" in str(failed.value)
    if fault is not lose:
        assert "a checkpoint needs" in str(failed.value)
        assert "are free there" in str(failed.value)
    if fault is lose:
        _mount("--bind", str(tmp_path / "behind"), str(disk))
    elif fault is make_read_only:
        subprocess.run(["umount", str(disk)], check=True)
    else:
        (disk / "filler").unlink()
    run = RunDirectory(disk / "experiments" / "base" / "run")
    assert read_checkpoint(run.last_checkpoint)["step"] == 3
    assert train(composed) == run.path
    assert run.read_status()["attempts"][-1]["from_step"] == 3
    assert differences(run_facts(run.path), reference) == []


def test_too_little_space_is_told_before_training_starts(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["mount", "-o", "remount,size=1500k", str(disk)], check=True)
    told: list[str] = []
    at_call(monkeypatch, Loop, "_train_step", 1, lambda: told.extend(caplog.messages))
    with contextlib.suppress(StorageError):
        larger = ("model.hidden_size=64", "model.intermediate_size=192", "training.checkpoint_every_epochs=1")
        train(compose(*TINY, f"output_dir={disk}", *larger))
    (warning,) = [message for message in told if "may become too small" in message]
    assert "a checkpoint needs about" in warning
    assert "up to 6 are there at once" in warning


def test_enough_space_is_not_told_of(finished_run: Path) -> None:
    assert "too small" not in (finished_run / "logs" / "train.log").read_text()


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_error_of_the_disk_elsewhere_is_one_message_too(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        at_call(patch, Loop, "_train_step", 4, lambda: patch.setattr(os, "write", failing))
        with pytest.raises(StorageError, match=os.strerror(code)):
            train(compose(*TINY, f"output_dir={tmp_path}", "run_id=run"))
    status = RunDirectory(tmp_path / "experiments" / "base" / "run").read_status()
    assert status["status"] == "failed"
    assert status["reason"].startswith("StorageError: ")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 256):  # a single byte may be one that only fills up
        content[place] ^= 1
    path.write_bytes(content)


def test_damaged_best_checkpoint_is_replaced_by_one_of_the_same_step_and_by_no_other(
    reference: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best evaluation is that of step 6, the end of the first epoch, where a periodic checkpoint is written too."""
    for name, every in (("with", "1"), ("without", "null")):
        path = tmp_path / name
        composed = compose(*EVERYTHING, f"output_dir={path}", "run_id=run", f"training.checkpoint_every_epochs={every}")
        run = RunDirectory(path / "experiments" / "base" / "run")
        with monkeypatch.context() as patch:
            at_call(patch, reprise.runs.attempt, "mend_best", 1, lambda run=run: damage(run.best_checkpoint))
            if name == "with":
                train(composed)
                assert "best.pt is damaged" in run.train_log.read_text()
                (run.checkpoints / "best.pt.damaged").unlink()
                assert differences(run_facts(run.path), reference) == []
            else:
                with pytest.raises(CheckpointError, match="no other checkpoint is of step 6, and none but that may be"):
                    train(composed)
                before = run.best_checkpoint.read_bytes()
                with pytest.raises(CheckpointError, match="no other checkpoint is of step 6"):
                    train(composed)
                assert run.best_checkpoint.read_bytes() == before
                assert not run.metrics.exists()


def test_what_a_killed_process_was_writing_is_removed_by_the_next(finished_run: Path, tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(finished_run, tmp_path / "run"))
    leftovers = [run.checkpoints / ".last.pt.abc.tmp", run.path / ".status.json.x.tmp", run.path / ".export.y.tmp"]
    for path in leftovers[:2]:
        path.write_text("half")
    leftovers[2].mkdir()
    with run.locked():
        run.remove_leftovers()
    assert not any(path.exists() for path in leftovers)
