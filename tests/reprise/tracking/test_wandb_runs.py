"""What a run leaves in W&B: in its files when it is offline, and on a server that speaks its interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY, TRAIN, compose
from wandb_backend import Server, offline_history, read_offline_run

from reprise.errors import Interrupted
from reprise.runs.metrics_log import read_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.sync import sync_run
from reprise.training.loop import Loop

KEY = "0123456789abcdef" * 2 + "01234567"
# The end waits for the server; here for a busy machine, too.
PATIENT = (
    "tracker=wandb",
    "tracker.wandb.seconds_at_end=300",
    "tracker.wandb.seconds_when_stopped=300",
    "training.log_every_steps=1",
    "run_id=one",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()
    server.start()
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb_cache"))
    yield server
    server.stop()


def logged(run: Path) -> list[tuple[int, dict[str, float]]]:
    return [(entry.step, entry.metrics) for entry in read_metrics(RunDirectory(run).metrics_log)]


def shown(history: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Return step and metrics of the rows of a history, in the order in which they stand there."""
    rows = []
    for row in history:
        assert row["_step"] == row["step"]
        rows.append((row["step"], {name: value for name, value in row.items() if "/" in name}))
    return rows


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    close_step = Loop._close_step

    def close(self: Loop) -> None:
        if self.step == step:
            self.interrupt("test")
        close_step(self)

    monkeypatch.setattr(Loop, "_close_step", close)


def sync(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sync.py", str(run)])
    sync_run()


def test_offline_run_is_one_directory_with_every_step_once_however_often_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = compose(*TINY, *PATIENT, "tracker.wandb.mode=offline", f"output_dir={tmp_path}")
    with monkeypatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted):
            train(composed)
    folder = RunDirectory(tmp_path / "experiments" / "base" / "one").wandb / "wandb"
    assert [step for step, _ in shown(offline_history(*folder.glob("offline-run-*")))] == [1, 2, 3, 4]
    run = train(composed)
    (directory,) = folder.glob("offline-run-*")
    history = offline_history(directory)
    assert shown(history) == logged(run)
    records = {record.WhichOneof("record_type"): record for record in read_offline_run(directory)}
    assert records["run"].run.display_name == "one"
    assert records["exit"].exit.exit_code == 0
    assert sorted(item.path for item in records["artifact"].artifact.manifest.contents) == [
        "config.json",
        "confusion_matrix.svg",
        "learning_curves.svg",
        "metrics.json",
        "model_card.md",
        "predictions.json",
        "reliability.svg",
    ]
    config = {
        item.nested_key[0] if item.nested_key else item.key: item.value_json
        for item in records["run"].run.config.update
    }
    assert config["training.max_epochs"] == "2"


def test_server_that_does_not_answer_costs_a_run_nothing_and_gets_everything_later(
    server: Server, tmp_path: Path, train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    server.stop()
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    run = train_tiny(*PATIENT)
    assert RunDirectory(run).read_status()["status"] == "completed"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(" not answer")[0] for text in warnings] == [
        "WandB: does",
        f"WandB: not everything was sent; python scripts/sync.py {run} sends the rest",
    ]
    assert server.history == []
    server.start()
    sync(run, monkeypatch)
    assert shown(server.history) == logged(run)
    assert server.exit_codes == [0]
    assert server.summary["test/accuracy"] > 0
    assert server.config["training.max_epochs"] == 2
    assert {"artifact/model_card.md", "artifact/metrics.json", "artifact/learning_curves.svg"} < server.uploads
    # Again: nothing is doubled.
    sync(run, monkeypatch)
    assert shown(server.history) == logged(run)
    assert len(set(server.run_ids)) == 1
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_resumed_run_goes_on_in_the_same_run_of_the_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = compose(*TINY, *PATIENT, f"output_dir={tmp_path}")
    with monkeypatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted):
            train(composed)
    assert [step for step, _ in shown(server.history)] == [1, 2, 3, 4]
    run = train(composed)
    assert shown(server.history) == logged(run)
    assert len(server.run_ids) == 2
    assert len(set(server.run_ids)) == 1
    assert server.exit_codes == [1, 0]


def test_a_run_that_is_told_to_stop_does_not_wait_long_for_a_server_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "300")
    interrupt_at(4, monkeypatch)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        with pytest.raises(Interrupted):
            train(compose(*TINY, *PATIENT, "tracker.wandb.seconds_when_stopped=0.5", f"output_dir={tmp_path}"))
    assert time.monotonic() - started < 100  # `seconds_at_end` are 300
    assert "not everything was sent; python scripts/sync.py" in caplog.text


@pytest.mark.long
def test_wandbs_own_sync_and_then_ours_leave_every_step_once(
    server: Server, train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_tiny(*PATIENT, "tracker.wandb.mode=offline")
    (directory,) = (RunDirectory(run).wandb / "wandb").glob("offline-run-*")
    command = [Path(sys.executable).parent / "wandb", "sync", directory]
    subprocess.run(command, cwd=run.parent, capture_output=True, check=True)  # it leaves a log where it is called
    assert shown(server.history) == logged(run)
    sync(run, monkeypatch)
    assert shown(server.history) == logged(run)
    assert len(set(server.run_ids)) == 1


@pytest.mark.long
def test_a_run_killed_again_and_again_has_one_run_there_with_every_step_once(server: Server, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "experiments" / "base" / "one")
    arguments = [sys.executable, str(TRAIN), *TINY, *PATIENT, f"output_dir={tmp_path}"]
    arguments += ["training.max_epochs=300", "num_threads=1"]
    for step in (400, 900, 1300):
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
            while not run.metrics_log.exists() or f'"step": {step},' not in run.metrics_log.read_text():
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(run.read_status()["attempts"]) == 4
    assert shown(server.history) == logged(run.path)
    assert len(set(server.run_ids)) == 1


def test_without_a_key_the_run_goes_on_and_one_warning_says_so(
    tmp_path: Path, train_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    run = train_tiny(*PATIENT)
    assert RunDirectory(run).read_status()["status"] == "completed"
    (first, _) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert first.startswith("WandB: No API key configured")
