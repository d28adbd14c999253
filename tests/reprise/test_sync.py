import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import scalars

from reprise.errors import Failure, InputError
from reprise.runs.run_directory import RunDirectory
from reprise.tools.sync import sync_run


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        monkeypatch.setattr("sys.argv", ["sync.py", str(path)])
        sync_run()

    return run


def test_event_files_that_were_lost_are_written_again(
    train_tiny: Callable[..., Path], sync: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(train_tiny("tracker=tensorboard", "training.log_every_steps=1"))
    before = scalars(run.tensorboard)
    assert [step for step, _ in before["train/step_loss"]] == list(range(1, 13))
    shutil.rmtree(run.tensorboard)
    sync(run.path)
    assert scalars(run.tensorboard) == before
    assert capsys.readouterr().out.splitlines()[-1] == "tensorboard: has everything"


def test_a_run_without_a_tracker_has_nowhere_to_be_sent(finished_run: Path, sync: Callable[[Path], None]) -> None:
    with pytest.raises(InputError, match="the run has no tracker"):
        sync(finished_run)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, sync: Callable[[Path], None]) -> None:
    with pytest.raises(InputError, match="is not the directory of a run"):
        sync(tmp_path)


def test_a_run_that_somebody_works_on_is_left_alone(finished_run: Path, sync: Callable[[Path], None]) -> None:
    with RunDirectory(finished_run).locked(), pytest.raises(InputError, match="is in use"):
        sync(finished_run)


def test_what_has_not_arrived_is_said(
    train_tiny: Callable[..., Path], sync: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    run = train_tiny("tracker=wandb")
    with pytest.raises(Failure, match="wandb: not everything has arrived; the same command tries again"):
        sync(run)
