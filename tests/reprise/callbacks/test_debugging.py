"""The debugging presets: one batch is learned, what stops being finite is named, and a profile is recorded."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_loop import end, make_run
from tiny_runs import TINY, compose
from torch import Tensor, nn

from reprise.callbacks import Run
from reprise.callbacks.anomalies import Anomalies
from reprise.callbacks.one_batch import OneBatch
from reprise.callbacks.profile import Profile
from reprise.errors import NonFiniteError, NotLearned
from reprise.models import ModelOutput
from reprise.runs.persisters.checkpoints import Checkpoints

LEARNED = (*TINY, "model.hidden_size=64", "model.intermediate_size=64", "model.label_smoothing=0.1")


def test_one_batch_is_learned_with_all_that_prevents_it_turned_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from reprise.runs.train import train

    more = ("training.learning_rate=0.004", "training.max_epochs=100")
    composed = compose(*LEARNED, "debug=one_batch", *more, f"output_dir={tmp_path}")
    config = composed.config
    assert (config.training.weight_decay, config.training.warmup_steps) == (
        0.0,
        2,
    )  # the command line has the last word
    assert config.training.scheduler == {"_target_": "reprise.optimization.schedules.ConstantSchedule"}
    assert (config.model.dropout, config.model.arguments["label_smoothing"]) == (0.1, 0.1)
    with caplog.at_level(logging.INFO):
        run = train(composed)
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("completed", "the loss of the batch fell below 0.02")
    assert "one batch: its loss fell from 2." in caplog.text


def test_a_batch_that_is_not_learned_fails_the_run_and_names_what_never_moved(tmp_path: Path) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.unused = nn.Linear(4, 3)

        def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
            logits = self.linear(inputs)
            return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))

    run = make_run(tmp_path, {"one_batch": OneBatch(), "checkpoints": Checkpoints()}, model=Idle(), max_steps=3)
    with pytest.raises(NotLearned, match=r"in 3 steps, and was expected below 0\.02.*unused\.weight, unused\.bias\."):
        run.loop.run()


def test_training_repeats_the_first_batches_with_the_draws_they_had() -> None:
    import numpy as np
    from tiny.images import load_images

    from reprise.training.loading import Batches

    data = load_images(train_split=0.45, val_split=0.1, seed=0)
    options = {"batch_size": 32, "seed": 0, "purpose": "train", "shuffle": True}
    every = Batches(data.splits["train"], data.collate, **options)  # type: ignore[arg-type]
    twice = Batches(data.splits["train"], data.collate, **options, only=2)  # type: ignore[arg-type]
    assert len(twice) == len(every) == 6
    first, second = (batch["pixel_values"] for batch, _ in zip(every, range(2), strict=False))
    seen = [batch["pixel_values"] for batch, _ in zip(twice.stream(5), range(9), strict=False)]  # over an epoch's end
    expected = [(first, second)[number % 6 % 2] for number in range(5, 14)]
    assert all(np.array_equal(a, b) for a, b in zip(seen, expected, strict=True))


class Diverges(nn.Module):
    """Returns what is not finite from one of its parts, or has a gradient that is not."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.first, self.middle, self.last = nn.Linear(4, 4), Root(), nn.Linear(4, 3)

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = self.first(inputs)
        if self.where == "forward":
            hidden = self.middle(-hidden.abs() - 1)
        if self.where == "backward":
            hidden = hidden + self.middle(hidden * 0)  # finite, but the slope of a root at 0 is not
        logits = self.last(hidden)
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits, labels))


class Root(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.sqrt()


def test_the_module_whose_output_is_not_finite_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"anomalies": Anomalies()}, model=Diverges("forward"))
    with pytest.raises(
        NonFiniteError, match=r"numbers that middle \(Root\) returns are not finite, in optimizer step 1"
    ):
        run.loop.run()
    end(run)
    assert not torch.is_anomaly_enabled()


def test_a_callback_that_is_new_to_a_run_resumed_mid_epoch_is_in_place_at_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reprise.cli.resuming import resume
    from reprise.runs.train import train

    checked: list[int] = []

    def check(self: Anomalies, name: str, run: Run) -> Any:
        return lambda module, inputs, output: checked.append(run.loop.step)

    monkeypatch.setattr(Anomalies, "_check", check)
    run = train(compose(*TINY, "training.max_steps=2", f"output_dir={tmp_path}"))
    assert not checked
    resume(run, ["training.max_steps=3", "callbacks.anomalies={_target_: reprise.callbacks.anomalies.Anomalies}"])
    assert checked[0] == 2
    (events,) = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()][-1:]
    assert (events["epoch"], events["step"]) == (1, 3)  # the epoch is not over yet


def test_the_operation_whose_gradient_is_not_finite_is_named_with_its_line(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"anomalies": Anomalies()}, model=Diverges("backward"))
    with (
        pytest.warns(UserWarning, match=r"(?s)Error detected in MulBackward0.*test_debugging\.py"),
        pytest.raises(RuntimeError, match="Function 'MulBackward0' returned nan values"),
    ):
        run.loop.run()
    end(run)


def test_a_profile_holds_the_steps_asked_for_and_opens_in_perfetto(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"profile": Profile(wait=1, warmup=1, active=3)}, max_epochs=4)
    run.loop.run()
    end(run)
    folder = run.directory.profile
    assert sorted(path.name for path in folder.iterdir()) == ["operators.txt", "trace.json"]
    trace = json.loads((folder / "trace.json").read_text())  # the format of Chrome's traces, which Perfetto reads
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert sorted({name for name in names if name.startswith("ProfilerStep#")}) == [
        f"ProfilerStep#{i}" for i in (2, 3, 4)
    ]
    assert "aten::addmm" in names
    assert "aten::addmm" in (folder / "operators.txt").read_text()


def test_a_run_that_ends_before_the_profile_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path, {"profile": Profile(wait=50)}, max_epochs=1)
    run.loop.run()
    end(run)
    assert "profile: the run ended after 3 steps; 53 are needed" in caplog.text
    assert not run.directory.profile.exists()


@pytest.mark.parametrize("preset", ["anomaly", "profile", "one_batch", "short"])
@pytest.mark.parametrize("experiment", ["base", "language_model"])
def test_presets_go_with_every_experiment(preset: str, experiment: str) -> None:
    callbacks = compose(f"experiment={experiment}", f"debug={preset}").config.callbacks
    added = {"anomaly": {"anomalies"}, "profile": {"profile"}, "one_batch": {"one_batch"}, "short": set()}
    assert set(callbacks) - set(compose(f"experiment={experiment}").config.callbacks) == added[preset]
