"""What a run leaves in MLflow: in a database of its own, and on a real server that is killed in the middle of it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import scalars
from tiny_runs import TINY, TRAIN

from reprise.runs.metrics_log import MetricEntry, MetricsLogger, read_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.tools.sync import sync_run
from reprise.trackers.mlflow import MLflow, key


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output directory whose database is made once: that takes seconds."""
    return tmp_path_factory.mktemp("outputs")


def make_run(outputs: Path, name: str, **changes: Any) -> RunDirectory:
    """Return a run with a config."""
    run = RunDirectory(outputs / "experiments" / "base" / name)
    run.mlflow.mkdir(parents=True, exist_ok=True)
    config = {"experiment_name": "base", "seed": 1, "training": {"max_epochs": 2}, "sweep_id": None} | changes
    run.config.write_text(json.dumps(config))
    return run


def log(run: RunDirectory, *steps: int) -> None:
    entries = [
        MetricEntry(
            f"2026-11-25T10:00:{step:02d}.000+00:00", 1, step, {"train/loss": 1 / step, "val/precision@5 [%]": 1}
        )
        for step in steps
    ]
    logger = MetricsLogger(run.metrics_log)
    logger.append(entries)
    logger.close()


def opened(run: RunDirectory, uri: str | None = None) -> tuple[MLflow, int]:
    """Return a tracker as the worker of a new attempt has it, and the last step it says it has."""
    tracker = MLflow("base", uri)
    return tracker, tracker.open(run)


def there(run: RunDirectory, uri: str | None = None) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """Return the one run of this name, and (step, value) of each of its metrics."""
    from mlflow import MlflowClient

    client = MlflowClient(uri or f"sqlite:///{run.path.parents[2] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("base").experiment_id
    (found,) = client.search_runs([experiment], f"attributes.run_name = '{run.run_id}'")
    names = found.data.metrics
    return found, {
        name: [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)] for name in names
    }


@pytest.mark.filterwarnings("ignore")  # its own, of which there are many
def test_every_step_is_there_once_however_often_a_run_is_carried_on(outputs: Path) -> None:
    run = make_run(outputs, "one")
    log(run, 1, 2, 3)
    lines = list(read_metrics(run.metrics_log))
    first, last_step = opened(run)
    assert last_step == -1
    first.send(lines[:2])
    # It was killed before it could know that the third had arrived.
    first._client.log_batch(first._run_id, metrics=first._metrics(lines[2]))

    again = make_run(outputs, "one", training={"max_epochs": 9, "compile": True})
    second, last_step = opened(again)
    assert last_step == 2
    second.send(lines[2:])
    found, history = there(run)
    assert [step for step, _ in history["train/loss"]] == [1, 2, 3]
    assert found.info.run_name == "one"
    assert found.data.params == {
        "experiment_name": "base",
        "seed": "1",
        "sweep_id": "null",
        "training.max_epochs": "2",
        "training.compile": "true",
    }
    assert found.data.tags["changed.training.max_epochs"] == "9"
    assert found.info.status == "RUNNING"

    card = run.model_card
    card.write_text("# Card")
    second.finish("completed", lines[2], [card])
    second.finish("completed", lines[2], [card])
    found, history = there(run)
    assert found.info.status == "FINISHED"
    assert history["val/precision_at_5 __percent_"] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert [path.name for path in (outputs / "mlflow_artifacts").rglob("*.md")] == ["model_card.md"]
    assert json.loads((run.mlflow / "run.json").read_text())["run_id"] == found.info.run_id


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_made_there_just_before_a_kill_is_found_again(outputs: Path) -> None:
    run = make_run(outputs, "two")
    opened(run)
    record = run.mlflow / "run.json"
    kept = json.loads(record.read_text())
    del kept["run_id"]
    record.write_text(json.dumps(kept))
    opened(run)
    there(run)  # there is one


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_not_there_is_told_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Exception, match="Connection refused"):
        opened(make_run(tmp_path, "one"), "http://127.0.0.1:9")
    assert time.monotonic() - started < 30


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_runs_that_start_together_on_a_fresh_database_are_all_there(tmp_path: Path) -> None:
    code = (
        "import sys; from reprise.runs.run_directory import RunDirectory; from reprise.trackers.mlflow import MLflow;"
        "MLflow('base').open(RunDirectory(sys.argv[1]))"
    )
    runs = [make_run(tmp_path, str(number)) for number in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", code, run.path], stderr=subprocess.DEVNULL) for run in runs]
    assert [process.wait() for process in processes] == [0] * 4
    for run in runs:
        there(run)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("val/accuracy", "val/accuracy"),
        ("val/f1@10", "val/f1_at_10"),
        ("a=b%*[x]", "a_is_b_percent__x_"),
        ("/a//b/../c/", "a/c"),
        ("../up", "_/up"),
        ("ä" * 300, "ä" * 250),
    ],
)
def test_names_become_such_that_mlflow_takes_them(name: str, taken: str) -> None:
    assert key(name) == taken


class MLflowServer:
    """The real server, with a database in `path`, on loopback."""

    def __init__(self, path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._path}/server.db"]
        command += ["--artifacts-destination", str(self._path / "artifacts")]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=self._path
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                assert self._process.poll() is None
                time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MLflowServer]:
    (tmp_path / "server").mkdir()
    server = MLflowServer(tmp_path / "server")
    server.start()
    yield server
    server.kill()


def command(output_dir: Path, address: str, *overrides: str) -> list[str]:
    """Return the real command: some seconds of training, and lines and checkpoints all along."""
    return [
        sys.executable,
        str(TRAIN),
        *TINY,
        "tracker=[tensorboard,mlflow]",
        f"tracker.mlflow.tracking_uri={address}",
        "tracker.mlflow.seconds_at_end=300",
        "training.max_epochs=300",
        "training.log_every_steps=1",
        "num_threads=1",
        "run_id=one",
        f"output_dir={output_dir}",
        *overrides,
    ]


def wait_for_step(run: RunDirectory, step: int) -> None:
    while not run.metrics_log.exists() or f'"step": {step},' not in run.metrics_log.read_text():
        time.sleep(0.1)


def expected(run: RunDirectory) -> dict[str, list[tuple[int, float]]]:
    rows: dict[str, list[tuple[int, float]]] = {}
    for entry in read_metrics(run.metrics_log):
        for name, value in entry.metrics.items():
            rows.setdefault(name, []).append((entry.step, value))
    results = json.loads(run.metrics.read_text())
    return rows | {name: [(results["step"], value)] for name, value in results["metrics"].items()}


def sync(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sync.py", str(run.path)])
    sync_run()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_killed_in_the_middle_gets_everything_later(
    server: MLflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(tmp_path / "experiments" / "base" / "one")
    with subprocess.Popen(command(tmp_path, server.address), stdout=subprocess.PIPE, text=True) as process:
        wait_for_step(run, 200)
        while not (run.mlflow / "run.json").exists() or "run_id" not in (run.mlflow / "run.json").read_text():
            time.sleep(0.1)
        server.kill()
        output, _ = process.communicate()
    assert process.returncode == 0
    assert run.read_status()["status"] == "completed"
    warnings = re.findall(r"MLflow: (MlflowException: API request to|not everything was sent)", output)
    assert warnings == ["MlflowException: API request to", "not everything was sent"]
    server.start()
    sync(run, monkeypatch)
    assert there(run, server.address)[1] == expected(run)
    sync(run, monkeypatch)
    assert there(run, server.address)[1] == expected(run)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_comes_back_gets_everything_during_the_run(server: MLflowServer, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "experiments" / "base" / "one")
    server.kill()
    with subprocess.Popen(
        command(tmp_path, server.address, "training.max_epochs=1200"), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "this is tried again" in line:
                break
        server.start()
        output, _ = process.communicate()
    assert process.returncode == 0
    assert "MLflow: answers again" in output
    assert there(run, server.address)[1] == expected(run)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_run_killed_again_and_again_has_one_run_there_with_every_step_once(
    server: MLflowServer, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "experiments" / "base" / "one")
    arguments = command(tmp_path, server.address)
    for step in (400, 900, 1300):
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
            wait_for_step(run, step)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(run.read_status()["attempts"]) == 4
    assert there(run, server.address)[1] == expected(run)
    event_files = scalars(run.tensorboard)
    last = max(entry.step for entry in read_metrics(run.metrics_log))
    for name, points in expected(run).items():
        steps = [last] if name.startswith("test/") else [step for step, _ in points]
        assert [step for step, _ in event_files[name]] == steps
