"""With any one ingredient of exactness taken out, the harness of `test_kill.py` reports a difference.

Without these, equal hashes could also mean that nobody looks. Each control changes the code in the processes of its
runs only, kills a run at an instant at which the ingredient matters, carries it on, and must find the facts that
differ. The same kills without the change find none.
"""

import contextlib
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness import EVERYTHING, Instant, Trial, differences, nothing, torn_files

import reprise.runs.attempt
import reprise.runs.checkpoint
import reprise.runs.export
import reprise.runs.persisters.checkpoints
import reprise.runs.resuming.restoring
import reprise.training.evaluation
import reprise.training.loading
import reprise.training.step
from reprise.callbacks import Run
from reprise.callbacks.early_stopping import EarlyStopping
from reprise.data import stack
from reprise.randomness import SampleDraws
from reprise.runs.attempt_record import end_attempt
from reprise.runs.metrics_log import MetricsLogger
from reprise.runs.persisters.checkpoints import Checkpoints
from reprise.runs.persisters.metrics_writer import MetricsLog
from reprise.runs.run_directory import RunDirectory
from reprise.training.loading import Batches
from reprise.training.loop import Loop

# val/loss falls throughout, so that the first evaluation stays the best and training stops after step 12 of 18.
EARLY = (
    *EVERYTHING,
    "training.max_epochs=3",
    "training.learning_rate=0.01",
    "training.monitor_mode=max",
    "callbacks.early_stopping.patience=3",
)
# At this rate the scale of the loss falls several times.
HALF = (*EVERYTHING, "training.precision=fp16", "training.learning_rate=1.0")
BOARD = (*EVERYTHING, "tracker=tensorboard")

# last.pt is that of step 9, within an epoch and within the sums between two evaluations; lines 10 and 11 are written.
IN_STEP_11 = Instant("step 11: forward pass of training", 1)
# last.pt is that of step 3, and what will be the best evaluation is still to come.
IN_STEP_6 = Instant("step 5: forward pass of training", 1)
# last.pt is that of step 6, the end of an epoch and the best evaluation.
IN_STEP_7 = Instant("step 6: forward pass of training", 1)
BETWEEN_BEST_AND_LAST = Instant("step 6: replace checkpoints/best.pt", 1)
IN_LAST = Instant("step 9: half a write checkpoints/last.pt", 100)
IN_EXPORT = Instant("step 12: half a write export/model.safetensors", 1)


@dataclass(frozen=True)
class Control:
    """An ingredient, how it is taken out, and which facts must differ then."""

    ingredient: str
    take_out: Callable[[], None]
    differs: tuple[str, ...]
    kill_at: Instant = IN_STEP_11
    overrides: tuple[str, ...] = EVERYTHING


def do_nothing(*_: Any, **__: Any) -> None: ...


def stream_steps() -> None:
    """Draw in each step from wherever the global generators stand, and do not restore them."""
    reprise.training.step.seed_globals = do_nothing
    reprise.runs.resuming.restoring.restore_rng_state = do_nothing


def stream_augmentation() -> None:
    count = itertools.count()

    class Streamed(SampleDraws):
        def __init__(self, seed: int, indices: Any) -> None:
            super().__init__(next(count), indices)

    reprise.training.loading.SampleDraws = Streamed  # type: ignore[misc]


def stream_order() -> None:
    generator = np.random.default_rng(0)
    Batches.order = lambda self, epoch: generator.permutation(self._num_samples)  # type: ignore[method-assign]


def keep_from_loading(part: str) -> Callable[[], None]:
    def take_out() -> None:
        load = reprise.runs.resuming.restoring.load_state

        def loaded(state: Any, path: Any, model: Any, optimizer: Any, scheduler: Any) -> None:
            parts = {"optimizer": optimizer, "scheduler": scheduler} | {part: None}
            load(state, path, model, parts["optimizer"], parts["scheduler"])

        reprise.runs.resuming.restoring.load_state = loaded

    return take_out


def forget_weights() -> None:
    load = reprise.runs.resuming.restoring.load_state

    def loaded(state: Any, path: Any, model: Any, *others: Any) -> None:
        fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        load(state, path, model, *others)
        model.load_state_dict(fresh)

    reprise.runs.resuming.restoring.load_state = loaded


def forget_in_loop(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[], None]:
    def take_out() -> None:
        load = Loop.load_state_dict
        Loop.load_state_dict = lambda self, state: load(self, state | change(dict(state)))  # type: ignore[method-assign]

    return take_out


def begin_within_accumulation() -> None:
    stream = Batches.stream
    Batches.stream = lambda self, first=0: stream(self, first + (first > 0))  # type: ignore[method-assign]


def last_before_best() -> None:
    due = Checkpoints._due
    Checkpoints._due = lambda self, run: due(self, run)[::-1]  # type: ignore[method-assign]


def write_in_place() -> None:
    @contextlib.contextmanager
    def in_place(path: Path) -> Iterator[Any]:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            yield file

    reprise.runs.checkpoint.atomic_file = in_place


def export_in_place() -> None:
    def make(dir: Path, prefix: str, suffix: str) -> Path:
        path = Path(dir, prefix.strip("."))
        path.mkdir(exist_ok=True)
        return path

    reprise.runs.export.tempfile = SimpleNamespace(mkdtemp=make)  # type: ignore[assignment]
    reprise.runs.export.shutil = SimpleNamespace(rmtree=do_nothing)  # type: ignore[assignment]


def complete_before_the_results() -> None:
    write_results = reprise.runs.attempt.write_results

    def written(task: Any, directory: RunDirectory, *others: Any) -> Any:
        end_attempt(directory, "completed", "too early", 12)
        return write_results(task, directory, *others)

    reprise.runs.attempt.write_results = written


def stay_in_evaluation_mode() -> None:
    """Switch to training mode at the start of training only."""
    run, train = Loop.run, torch.nn.Module.train

    def started(self: Loop) -> None:
        train(self.model)
        self.model.train = do_nothing  # type: ignore[method-assign,assignment]
        self.model.eval = lambda: train(self.model, False)  # type: ignore[method-assign]
        run(self)
        del self.model.train, self.model.eval

    Loop.run = started  # type: ignore[method-assign]
    Loop._modes = property(lambda self: [], do_nothing)  # type: ignore[assignment]


def user_code_draws(self: EarlyStopping, run: Run) -> None:
    draws = random.random(), float(np.random.random()), float(torch.rand(1))
    run.loop.log({f"user/draw_{number}": draw for number, draw in enumerate(draws)})


def draw_in_user_code() -> None:
    EarlyStopping.on_epoch_start = user_code_draws  # type: ignore[method-assign]


def draw_in_user_code_without_restoring() -> None:
    draw_in_user_code()
    reprise.runs.resuming.restoring.restore_rng_state = do_nothing


def keep_purged_steps() -> None:
    from torch.utils.tensorboard import FileWriter

    add_event = FileWriter.add_event

    def add(self: FileWriter, event: Any, *place: Any) -> None:
        if not event.HasField("session_log"):
            add_event(self, event, *place)

    FileWriter.add_event = add  # type: ignore[method-assign]


CONTROLS = [
    Control("weights", forget_weights, ("last.pt: model_state_dict", "metrics.json"), IN_STEP_6),
    Control(
        "optimizer state",
        keep_from_loading("optimizer"),
        ("last.pt: optimizer_state_dict", "last.pt: model_state_dict", "metrics.jsonl"),
    ),
    Control(
        "schedule",
        keep_from_loading("scheduler"),
        ("last.pt: scheduler_state_dict", "last.pt: model_state_dict", "metrics.jsonl"),
    ),
    Control("addresses of steps", stream_steps, ("last.pt: model_state_dict", "metrics.jsonl")),
    Control("addresses of samples", stream_augmentation, ("inputs", "last.pt: model_state_dict", "metrics.jsonl")),
    Control("order of samples from (seed, epoch)", stream_order, ("inputs", "last.pt: model_state_dict")),
    Control("beginning at a whole step", begin_within_accumulation, ("inputs", "last.pt: model_state_dict")),
    Control(
        "sums of the loop",
        forget_in_loop(lambda state: {"loss_sum": 0.0, "num_items": 0}),
        ("metrics.jsonl",),
    ),
    Control(
        "the step",
        forget_in_loop(lambda state: {"step": state["step"] - 1}),
        ("metrics.jsonl", "last.pt: model_state_dict"),
    ),
    Control(
        "the best evaluation",
        forget_in_loop(lambda state: {"best": None}),
        ("best.pt: model_state_dict", "best.pt: step", "export", "metrics.json", "predictions.json"),
    ),
    Control(
        "early stopping's count",
        lambda: setattr(EarlyStopping, "load_state_dict", do_nothing),
        ("last.pt: step", "metrics.jsonl", "last.pt: callback_states"),
        overrides=EARLY,
    ),
    Control(
        "the scale of the loss",
        forget_in_loop(lambda state: {"scaler": state["scaler"] | {"scale": 65536.0, "_growth_tracker": 0}}),
        ("last.pt: loop_state",),
        overrides=HALF,
    ),
    Control("cutting metrics.jsonl", lambda: setattr(MetricsLogger, "truncate", do_nothing), ("metrics.jsonl",)),
    Control(
        "restoring the length of metrics.jsonl",
        lambda: setattr(MetricsLog, "load_state_dict", do_nothing),
        ("metrics.jsonl",),
    ),
    Control("hiding events that are written again", keep_purged_steps, ("tensorboard",), overrides=BOARD),
    Control("last.pt after best.pt", last_before_best, ("best.pt: step", "export"), BETWEEN_BEST_AND_LAST),
    Control("checkpoints appear whole", write_in_place, ("torn: checkpoints/last.pt", "files"), IN_LAST),
    Control("exports appear whole", export_in_place, ("torn: export/model.safetensors",), IN_EXPORT),
    Control(
        "removing what was being written",
        lambda: setattr(RunDirectory, "remove_leftovers", do_nothing),
        ("files",),
        IN_LAST,
    ),
    Control("complete comes last", complete_before_the_results, ("files", "export"), IN_EXPORT),
    Control("training mode", stay_in_evaluation_mode, ("last.pt: model_state_dict", "metrics.jsonl")),
    Control("random states", draw_in_user_code_without_restoring, ("metrics.jsonl",), IN_STEP_7),
]


def compare(take_out: Callable[[], None], kill_at: Instant, overrides: tuple[str, ...] = EVERYTHING) -> list[str]:
    """Return in what a run that is killed and carried on differs from one that is left alone, in the same code."""
    whole, killed = Trial(_new_directory(), overrides, take_out), Trial(_new_directory(), overrides, take_out)
    try:
        assert whole.go() == 0
        assert killed.go(kill_at) == -9
        torn = [f"torn: {name}" for name in torn_files(killed.directory.path)]
        killed.go()
        return torn + differences(killed.facts(), whole.facts())
    finally:
        shutil.rmtree(whole.output_dir)
        shutil.rmtree(killed.output_dir)


def _new_directory() -> Path:
    return Path(tempfile.mkdtemp())


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.ingredient)
def test_harness_reports_what_differs_without(control: Control) -> None:
    found = compare(control.take_out, control.kill_at, control.overrides)
    assert set(control.differs) <= set(found)


@pytest.mark.parametrize(
    ("take_out", "kill_at", "overrides"),
    [
        *((nothing, *kill) for kill in dict.fromkeys((control.kill_at, control.overrides) for control in CONTROLS)),
        (draw_in_user_code, IN_STEP_7, EVERYTHING),
    ],
)
def test_with_every_ingredient_the_same_kills_change_nothing(
    take_out: Callable[[], None], kill_at: Instant, overrides: tuple[str, ...]
) -> None:
    assert compare(take_out, kill_at, overrides) == []


def _facts(path: Path, prepare: Callable[[], None], overrides: tuple[str, ...]) -> dict[str, Any]:
    trial = Trial(path, overrides, prepare)
    assert trial.go() == 0
    return trial.facts()


def stream_steps_only() -> None:
    reprise.training.step.seed_globals = do_nothing


def draw_in_evaluation() -> None:
    """Let the model drop out in evaluation, too."""
    dropout = torch.nn.functional.dropout
    torch.nn.functional.dropout = lambda inputs, p, training, inplace=False: dropout(inputs, p, True, inplace)  # type: ignore[assignment]


def draw_in_evaluation_and_callback() -> None:
    draw_in_evaluation()
    EarlyStopping.on_step_end = lambda self, run: torch.rand(1)  # type: ignore[method-assign,assignment,return-value]


def without_address_of_evaluation(prepare: Callable[[], None]) -> Callable[[], None]:
    def take_out() -> None:
        prepare()
        reprise.training.evaluation.seed_globals = do_nothing

    return take_out


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_without_addresses_of_steps_evaluations_move_the_weights(is_taken_out: bool, tmp_path: Path) -> None:
    prepare = stream_steps_only if is_taken_out else nothing
    # Else more evaluations would stop it earlier.
    overrides = (*EVERYTHING, "callbacks.early_stopping.patience=100")
    first = _facts(tmp_path / "first", prepare, overrides)
    second = _facts(tmp_path / "second", prepare, (*overrides, "training.eval_every_steps=1"))
    assert ("last.pt: model_state_dict" in differences(first, second)) is is_taken_out


class Sums:
    """Samples that add up many floats: with two threads the sum has other bits than with one."""

    values = torch.randn(300_000, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"sum": (self.values * float(1 + index)).sum()}


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_without_fetching_on_one_thread_loader_workers_move_the_inputs(
    is_taken_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_taken_out:
        monkeypatch.setattr(reprise.training.loading, "one_thread", contextlib.nullcontext)
    torch.set_num_threads(2)

    def sums(num_workers: int) -> list[float]:
        batches = Batches(Sums(), stack, batch_size=16, seed=0, purpose="train", num_workers=num_workers)
        return [float(value) for batch in batches for value in batch["sum"]]

    assert (sums(0) == sums(1)) is not is_taken_out


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_without_an_address_of_evaluations_draws_elsewhere_move_the_scores(is_taken_out: bool, tmp_path: Path) -> None:
    change = without_address_of_evaluation if is_taken_out else (lambda prepare: prepare)
    first = _facts(tmp_path / "first", change(draw_in_evaluation), EVERYTHING)
    second = _facts(tmp_path / "second", change(draw_in_evaluation_and_callback), EVERYTHING)
    found = differences(first, second)
    # The states at the end of a step are other ones, of course; addresses see to it that nothing follows from that.
    assert ("metrics.jsonl" in found) is is_taken_out
    assert "last.pt: model_state_dict" not in found
