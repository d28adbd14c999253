"""Events of callbacks that no callback of the engine shows by what it does."""

from pathlib import Path

import pytest
from tiny_loop import end, make_run
from tiny_runs import TINY, compose

from reprise.callbacks import Callback, Run
from reprise.callbacks.anomalies import Anomalies
from reprise.callbacks.early_stopping import EarlyStopping
from reprise.callbacks.one_batch import OneBatch
from reprise.callbacks.profile import Profile
from reprise.callbacks.progress import Progress
from reprise.callbacks.seeding import Seeding
from reprise.callbacks.weights_trace import WeightsTrace
from reprise.errors import Interrupted, NotLearned
from reprise.files.content_hash import content_hash
from reprise.runs.persisters.checkpoints import Checkpoints
from reprise.runs.persisters.metrics_writer import MetricsLog
from reprise.runs.persisters.run_layout import RunLayout
from reprise.runs.train import train
from reprise.tools.model_card.callback import ModelCard
from reprise.tools.plots.callback import Plots
from reprise.tools.sweep.pruning import Pruning
from reprise.trackers.tensorboard import TensorBoard


def test_training_starts_with_an_event_after_everything_is_restored_also_in_the_middle_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def on_train_start(self: Seeding, run: Run) -> None:
        seen.append((run.loop.step, run.directory.read_status()["attempts"][-1]["from_step"]))

    def interrupt(self: MetricsLog, run: Run) -> None:
        run.loop.interrupt("test")

    monkeypatch.setattr(Seeding, "on_train_start", on_train_start)
    composed = compose(*TINY, "run_id=one", f"output_dir={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "on_step_end", interrupt)
        with pytest.raises(Interrupted):
            train(composed)
    train(composed)
    assert seen == [(0, 0), (1, 1)]


def test_the_state_of_a_callback_can_be_asked_for_at_any_step_and_changes_nothing(tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    asked = []

    class Asks(Callback):
        def on_step_end(self, run: Run) -> None:
            self.ask(run)

        def on_commit(self, run: Run) -> None:
            self.ask(run)

        def ask(self, run: Run) -> None:
            for name, callback in run.callbacks.items():
                before = files()
                first, second = callback.state_dict(), callback.state_dict()
                assert content_hash(first) == content_hash(second), name
                assert files() == before, name
            asked.append(run.loop.step)

    callbacks = {
        "asks": Asks(),
        "anomalies": Anomalies(),
        "checkpoints": Checkpoints(background=False),
        "early_stopping": EarlyStopping(),
        "log": MetricsLog(every_steps=1),
        "model_card": ModelCard(),
        "one_batch": OneBatch(below=1e-9),
        "plots": Plots(),
        "profile": Profile(),
        "progress": Progress(),
        "run_layout": RunLayout(),
        "seeding": Seeding(),
        "tensorboard": TensorBoard(),
        "weights_trace": WeightsTrace(1),
    }
    run = make_run(tmp_path, callbacks, max_epochs=1)
    with pytest.raises(NotLearned):
        run.loop.run()
    assert asked == [1, 1, 2, 2, 3, 3]
    end(run, "failed")
    pruning = Pruning(None)
    assert pruning.state_dict() == pruning.state_dict() == {"num_evaluations": 0}
