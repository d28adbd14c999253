"""A stop within an evaluation moves no bit, whatever the model keeps of what it sees.

The ordinary suite stops a few evaluations; `pytest -m long tests/reprise/test_stopped_evaluations.py` stops 200, at
random modules of random batches of any evaluation, half of them with SIGKILL, the others with each of the signals.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import EVERYTHING, Trial, differences, torn_files, weights
from tiny_runs import compose
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

import reprise.runs.resuming.restoring
import reprise.training.evaluation
from reprise.runs.train import train

OBSERVING = (*EVERYTHING, "model._target_=tiny.observing.Observing")
SIGNALS = [number for other in ("SIGTERM", "SIGINT", "SIGUSR1") for number in (signal.SIGKILL, signal.Signals[other])]


def do_nothing(*_: object) -> None: ...


def in_evaluations(reach: Callable[[int], object], prepare: Callable[[], object] = do_nothing) -> None:
    """Have `reach` called with the number of each module that is called without gradients, from 1."""
    calls = itertools.count(1)

    def count(module: torch.nn.Module, inputs: Any) -> None:
        if not torch.is_grad_enabled():
            reach(next(calls))

    register_module_forward_pre_hook(count)
    prepare()


def send(number: signal.Signals, at: int) -> Callable[[int], None]:
    return lambda reached: os.kill(os.getpid(), number) if reached == at else None


@functools.cache
def whole_run(prepare: Callable[[], object] = do_nothing) -> tuple[dict[str, Any], int]:
    """Return the facts of the run that is left alone, and how many modules are called in its evaluations."""
    num_calls = multiprocessing.Value("i", 0)

    def note(reached: int) -> None:
        num_calls.value = reached  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as path:
        trial = Trial(Path(path), OBSERVING, functools.partial(in_evaluations, note, prepare))
        assert trial.go() == 0
        return trial.facts(), num_calls.value  # type: ignore[attr-defined]


def outcome_of_stop(
    number: signal.Signals, at: int, path: Path, prepare: Callable[[], object] = do_nothing
) -> list[str]:
    """Stop a run at a module of an evaluation, carry it on, and return all that is not as it should be."""
    stopped = Trial(path, OBSERVING, functools.partial(in_evaluations, send(number, at), prepare))
    assert stopped.go() == (-number if number == signal.SIGKILL else 1)
    torn = torn_files(stopped.directory.path)
    again = Trial(path, OBSERVING, functools.partial(in_evaluations, do_nothing, prepare))
    assert again.go() == 0
    return torn + differences(again.facts(), whole_run(prepare)[0])


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 204))])
def test_run_stopped_within_an_evaluation_ends_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    at = int(np.random.default_rng(seed).integers(1, whole_run()[1] + 1))
    assert outcome_of_stop(SIGNALS[seed % len(SIGNALS)], at, tmp_path) == []


@contextlib.contextmanager
def leaving_traces(model: nn.Module) -> Iterator[nn.Module]:
    with torch.no_grad():
        yield model.eval()


def leave_what_evaluations_do() -> None:
    reprise.training.evaluation.evaluating = leaving_traces  # type: ignore[attr-defined]


def forget_buffers() -> None:
    load = reprise.runs.resuming.restoring.load_state

    def loaded(state: Any, path: Any, model: Any, *others: Any) -> None:
        load(state, path, model, *others)
        for buffer in model.observer.buffers():
            buffer.zero_()

    reprise.runs.resuming.restoring.load_state = loaded


@pytest.mark.parametrize(
    ("number", "take_out"), [(signal.SIGTERM, leave_what_evaluations_do), (signal.SIGKILL, forget_buffers)]
)
def test_comparison_reports_what_differs_without(
    number: signal.Signals, take_out: Callable[[], None], tmp_path: Path
) -> None:
    at = whole_run(take_out)[1] // 2  # in the evaluation after step 6 or 8
    assert {"last.pt: model_state_dict", "metrics.jsonl"} <= set(outcome_of_stop(number, at, tmp_path, take_out))


@pytest.mark.parametrize("is_taken_out", [False, True])
def test_cadence_of_evaluations_moves_no_weights_and_no_buffers(
    is_taken_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_taken_out:
        monkeypatch.setattr(reprise.training.evaluation, "evaluating", leaving_traces)
    cadences = ("null", "1")
    overrides = (*OBSERVING, f"output_dir={tmp_path}", "callbacks.early_stopping.patience=100")
    runs = [train(compose(*overrides, f"training.eval_every_steps={cadence}")) for cadence in cadences]
    assert (weights(runs[0]) == weights(runs[1])) is not is_taken_out


def test_signal_in_the_evaluation_of_a_run_saves_the_model_as_the_step_left_it(tmp_path: Path) -> None:
    def stopped(at: int, name: str) -> Trial:
        trial = Trial(tmp_path / name, OBSERVING, functools.partial(in_evaluations, send(signal.SIGTERM, at)))
        assert trial.go() == 1
        return trial

    half = whole_run()[1] // 2
    early, late = stopped(half, "early").facts(), stopped(half + 20, "late").facts()
    assert early["last.pt: step"] == late["last.pt: step"]
    assert early["last.pt: model_state_dict"] == late["last.pt: model_state_dict"]
