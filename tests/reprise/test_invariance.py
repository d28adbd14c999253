"""Nothing moves the bits that should not: each of these is varied, against one reference.

The table in `docs/engine/evidence.md` names these tests.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import EVERYTHING, Instant, Trial, differences, run_facts, weights
from tiny_runs import REPOSITORY, TINY, TRAIN, compose

from reprise.runs.train import train
from reprise.training.loop import Loop


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the run that all others are held against."""
    return train(compose(*EVERYTHING, f"output_dir={tmp_path_factory.mktemp('reference')}", "run_id=reference"))


def test_same_again(reference: Path, tmp_path: Path) -> None:
    again = train(compose(*EVERYTHING, f"output_dir={tmp_path}"))
    assert differences(run_facts(again), run_facts(reference)) == []


# None of these is part of what is trained, and none changes a file but its own.
@pytest.mark.parametrize(
    "change",
    [
        ("data.num_workers=1",),
        ("data.num_workers=2",),
        ("tracker=tensorboard",),
        pytest.param(("tracker=wandb", "tracker.wandb.mode=offline"), marks=pytest.mark.long),
        pytest.param(("tracker=mlflow", "tracker.mlflow.seconds_at_end=300"), marks=pytest.mark.long),
        ("callbacks.progress.seconds=0.001",),
        ("callbacks.progress.live=false",),
        ("~callbacks.progress",),
        ("callbacks.checkpoints.background=true",),
        ("~callbacks.early_stopping",),
    ],
    ids=" ".join,
)
def test_no_result_depends_on(change: tuple[str, ...], reference: Path, tmp_path: Path) -> None:
    run = train(compose(*EVERYTHING, f"output_dir={tmp_path}", *change))
    found = differences(run_facts(run), run_facts(reference))
    # These are states and files of what was added or removed.
    own = ("tensorboard", "files", "callback_states", "model_card.md")
    assert [name for name in found if not name.startswith(own) and not name.endswith(own)] == []
    if change[0].startswith("data."):
        assert found == []


# These say when something is looked at or written; weights and optimizer are the same at the end.
@pytest.mark.parametrize(
    "change",
    [
        ("~callbacks.model_card",),
        ("training.log_every_steps=null",),
        ("training.log_every_steps=3",),
        ("training.eval_every_steps=null",),
        ("training.eval_every_steps=1",),
        ("training.checkpoint_every_steps=null",),
        ("training.checkpoint_every_steps=1",),
        ("training.checkpoint_every_epochs=null",),
        ("training.monitor=val/accuracy", "training.monitor_mode=max"),
    ],
    ids=" ".join,
)
def test_weights_do_not_depend_on(change: tuple[str, ...], reference: Path, tmp_path: Path) -> None:
    overrides = (*EVERYTHING, f"output_dir={tmp_path}", *change)
    # With fewer evaluations or more, early stopping would stop elsewhere.
    run = train(compose(*overrides, "callbacks.early_stopping.patience=1000"))
    assert weights(run) == weights(reference)


def test_prefetching_changes_nothing(reference: Path, tmp_path: Path) -> None:
    """Loader workers are ahead by other numbers of batches."""

    def with_prefetching(factor: int) -> Callable[[], None]:
        def prepare() -> None:
            import reprise.training.loading as loading

            loader = loading.DataLoader

            def prefetching(*arguments: Any, **keywords: Any) -> Any:
                return loader(*arguments, **keywords, prefetch_factor=factor if keywords["num_workers"] else None)

            loading.DataLoader = prefetching  # type: ignore[misc,assignment]

        return prepare

    for factor in (1, 5):
        trial = Trial(tmp_path / str(factor), (*EVERYTHING, "data.num_workers=2"), with_prefetching(factor))
        assert trial.go() == 0
        assert differences(run_facts(trial.directory.path), run_facts(reference)) == []


def test_order_of_callbacks_changes_nothing(reference: Path, tmp_path: Path) -> None:
    composed = compose(*EVERYTHING, f"output_dir={tmp_path}")
    names = list(composed.config.callbacks)
    for seed in range(3):
        order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
        config = replace(composed.config, callbacks={name: composed.config.callbacks[name] for name in order})
        run = train(replace(composed, config=config))
        assert differences(run_facts(run), run_facts(reference)) == []


def test_draws_elsewhere_in_the_process_change_nothing(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._train_step

    def drawing(self: Loop, microbatches: list[dict[str, torch.Tensor]]) -> None:
        torch.rand(7), np.random.random(3)
        step(self, microbatches)
        torch.rand(5)

    monkeypatch.setattr(Loop, "_train_step", drawing)
    run = train(compose(*EVERYTHING, f"output_dir={tmp_path}"))
    assert weights(run) == weights(reference)


def test_what_ran_earlier_in_the_process_changes_nothing(reference: Path, tmp_path: Path) -> None:
    # In this very process: a forked one could not use two threads.
    torch.rand(1000)
    np.random.seed(3)
    train(compose(*TINY, f"output_dir={tmp_path / 'other'}", "seed=7", "deterministic=false", "num_threads=2"))
    train(compose(*TINY, f"output_dir={tmp_path / 'other'}", "training.precision=bf16", "deterministic=strict"))
    train(compose(*EVERYTHING, f"output_dir={tmp_path}", "run_id=run"))
    assert differences(run_facts(tmp_path / "experiments" / "base" / "run"), run_facts(reference)) == []


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_hash_seed_and_a_fresh_process_change_nothing(hash_seed: str, reference: Path, tmp_path: Path) -> None:
    arguments = [*EVERYTHING, f"output_dir={tmp_path}", "run_id=run"]
    environment = {"PATH": "", "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONHASHSEED": hash_seed}
    subprocess.run(
        [sys.executable, str(TRAIN), *arguments],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert differences(run_facts(tmp_path / "experiments" / "base" / "run"), run_facts(reference)) == []


def test_being_carried_on_changes_nothing(reference: Path, tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    assert trial.go(Instant("step 5: forward pass of training", 1)) == -9
    assert trial.go() == 0
    assert differences(run_facts(trial.directory.path), run_facts(reference)) == []


@pytest.mark.parametrize(
    "change",
    [
        "seed=0",
        "training.batch_size=16",
        "training.gradient_accumulation=1",
        "training.precision=bf16",
        "training.precision=fp16",
        "model.dropout=0.2",
        "data.shift_probability=0.4",
    ],
)
def test_what_should_move_the_bits_does(change: str, reference: Path, tmp_path: Path) -> None:
    run = train(compose(*EVERYTHING, f"output_dir={tmp_path}", change))
    assert weights(run) != weights(reference)
