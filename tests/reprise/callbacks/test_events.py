"""Events of callbacks that no callback of the engine shows by what it does."""

from pathlib import Path

import pytest
from tiny_runs import TINY, compose

from reprise.callbacks import Run
from reprise.errors import Interrupted
from reprise.runs.persisters.metrics_writer import MetricsLog
from reprise.runs.train import train


def test_training_starts_with_an_event_after_everything_is_restored_also_in_the_middle_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def on_train_start(self: MetricsLog, run: Run) -> None:
        seen.append((run.loop.step, run.directory.read_status()["attempts"][-1]["from_step"]))

    def interrupt(self: MetricsLog, run: Run) -> None:
        run.loop.interrupt("test")

    monkeypatch.setattr(MetricsLog, "on_train_start", on_train_start)
    composed = compose(*TINY, "run_id=one", f"output_dir={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "on_step_end", interrupt)
        with pytest.raises(Interrupted):
            train(composed)
    train(composed)
    assert seen == [(0, 0), (1, 1)]
