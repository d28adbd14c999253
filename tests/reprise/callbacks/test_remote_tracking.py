"""What is wrong with a tracker is reported before anything is created, and its process costs training nothing."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import TINY, compose

from reprise.errors import ConfigError, InputError
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.trackers.mlflow import MLflow
from reprise.trackers.wandb import WandB


@pytest.mark.parametrize(("name", "tracker"), [("wandb", WandB), ("mlflow", MLflow)])
def test_what_is_not_installed_says_which_extra_to_install(
    name: str, tracker: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "package", "not_installed")
    with pytest.raises(InputError, match=r"tracker: needs not_installed, .*--extra not_installed`"):
        train(compose(*TINY, f"tracker={name}", f"output_dir={tmp_path / 'outputs'}"))
    assert list(tmp_path.iterdir()) == []


def test_several_trackers_can_be_chosen_at_once_and_none() -> None:
    assert list(compose("experiment=base", "tracker=[tensorboard,wandb,mlflow]").config.tracker) == [
        "tensorboard",
        "wandb",
        "mlflow",
    ]
    assert compose("experiment=base", "tracker=none").config.tracker == {}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://me:pass123@host/", r"'https://host/' was given with a user or a password"),
        ("postgresql://me:pass123@host/db", r"set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("sqlite:///mlflow.db", r"expected an absolute path"),
        ("./mlruns", r"no longer writes to plain directories"),
        ("file:///tmp/mlruns", r"no longer writes to plain directories"),
    ],
)
def test_addresses_that_cannot_serve_or_hold_secrets_are_refused_without_showing_them(
    uri: str, message: str, tmp_path: Path
) -> None:
    config = compose(
        *TINY, "tracker=mlflow", f"tracker.mlflow.tracking_uri='{uri}'", f"output_dir={tmp_path / 'outputs'}"
    )
    with pytest.raises(InputError, match=rf"tracker.mlflow.tracking_uri: .*{message}") as refused:
        train(config)
    assert "pass123" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override", ["+tracker.wandb.api_key=pass123", "+tracker.wandb.token=pass123", "tracker.wandb.key=pass123"]
)
def test_a_secret_in_a_config_is_refused_without_showing_it(override: str) -> None:
    with pytest.raises(ConfigError, match="a secret does not belong into a config") as refused:
        compose("experiment=base", "tracker=wandb", override.replace("tracker.wandb.key", "++tracker.wandb.key"))
    assert "pass123" not in str(refused.value).replace(override, "")


def test_the_process_that_sends_imports_no_torch() -> None:
    code = "import sys, reprise.trackers.worker, reprise.trackers.mlflow, reprise.trackers.wandb; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "reprise.trackers.worker" in modules
    assert not {"torch", "wandb", "mlflow"} & set(modules)


HANGING = """
import threading

from reprise.trackers.server import ServerTracker


class Hanging(ServerTracker):
    package = "json"

    def folder(self, directory):
        return directory.path

    def open(self, directory):
        (directory.path / "opened").touch()
        threading.Event().wait()

    def send(self, entries): ...

    def finish(self, outcome, results, files): ...
"""


def test_a_tracker_that_never_answers_is_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tracker_that_hangs.py").write_text(HANGING)
    monkeypatch.syspath_prepend(tmp_path)
    tracker = importlib.import_module("tracker_that_hangs").Hanging(seconds_at_end=1.0, seconds_when_stopped=1.0)
    tracker.start(RunDirectory(tmp_path))
    while not (tmp_path / "opened").exists():
        time.sleep(0.05)
    started = time.monotonic()
    assert not tracker.end("completed")
    assert time.monotonic() - started < 20
