"""Kill it anywhere: whatever the instant of a SIGKILL, the same command ends with the same bytes.

The instants are all calls that write below the output directory, the middle of every write, every forward pass in
training and in evaluation, every step of optimizer and schedule; and random ones, killed from outside. The ordinary
suite takes some of each, `pytest -m long tests/reprise/test_kill.py` hundreds.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import EVERYTHING, Instant, Trial, differences, run_facts, torn_files
from tiny_runs import TRAIN

KILLED = -9

# Every instant belongs to one of these, by its name.
GROUPS = {
    "the start": r"step 0: (?!forward|optimizer|schedule)",
    "microbatches": r"forward pass of training",
    "steps": r"optimizer|schedule",
    "evaluation": r"batch of an evaluation",
    "metrics.jsonl": r"logs/metrics\.jsonl",
    "best.pt": r"checkpoints/best\.pt",
    "last.pt": r"checkpoints/last\.pt",
    "epoch_NNN.pt": r"checkpoints/epoch_",
    "directories": r"step [1-9].*(fsync|mkdir) (checkpoints|results|export|experiments/base/run)$",
    "results": r"results/",
    "export": r"(write|fsync|replace|rename) export",
    "provenance.json": r"step 12.*provenance\.json",
    "model_card.md": r"model_card\.md",
    "status.json": r"step 12.*status\.json",
}
# What else a run may do; early stopping and fp16 have states of their own. Loader workers make an attempt slower.
VARIANTS = {
    "loader workers": ("data.num_workers=2",),
    # val/loss falls throughout, so that the first evaluation stays the best: it stops after step 12 of 18.
    "early stopping": (
        "training.max_epochs=3",
        "training.learning_rate=0.01",
        "training.monitor_mode=max",
        "callbacks.early_stopping.patience=3",
    ),
    "bf16": ("training.precision=bf16",),
    "fp16": ("training.precision=fp16", "training.learning_rate=1.0"),
    "no accumulation": ("training.gradient_accumulation=1",),
    "checkpoint at every step": ("training.checkpoint_every_steps=1",),
    "checkpoint at epoch ends": ("training.checkpoint_every_steps=null",),
    "ends within an epoch": ("training.max_steps=10",),
    "SGD": ("training/optimizer=sgd", "training/scheduler=linear"),
    "TensorBoard": ("tracker=tensorboard",),
    "checkpoints in the background": ("callbacks.checkpoints.background=true", "training.checkpoint_every_steps=1"),
}


@pytest.fixture(scope="module")
def another_file_system() -> Iterator[Path]:
    """Return a directory on another file system than the one for temporary files, where there is one."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def whole(another_file_system: Path) -> tuple[dict[str, Any], list[Instant]]:
    """Return the facts of the run that is left alone, and its instants."""
    trial = Trial(another_file_system / "whole")
    assert trial.go() == 0
    return trial.facts(), trial.instants


@pytest.fixture
def directory(another_file_system: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=another_file_system))
    yield path
    shutil.rmtree(path)


def evenly(items: list[Any], num: int) -> list[Any]:
    """Return `num` of the items, the first and the last among them."""
    return [items[i] for i in sorted(set(np.linspace(0, len(items) - 1, num).round().astype(int).tolist()))]


def outcome_of_kill(instant: Instant, whole: dict[str, Any], path: Path) -> list[str]:
    """Kill a run at an instant, carry it on, and return all that is not as it should be."""
    trial = Trial(path)
    wrong = []
    if (code := trial.go(instant)) != KILLED:
        wrong.append(f"exit code {code} instead of a kill")
    wrong += [f"torn: {name}" for name in torn_files(trial.directory.path)]
    if (code := trial.go()) != 0:
        wrong.append(f"exit code {code} of the second attempt")
    return wrong + differences(trial.facts(), whole)


def test_oracle_is_the_same_twice_and_without_extra_checkpoints(
    whole: tuple[dict[str, Any], list[Instant]], tmp_path: Path
) -> None:
    again = Trial(tmp_path / "again")
    assert again.go() == 0
    assert again.instants == whole[1]
    assert differences(again.facts(), whole[0]) == []

    without = Trial(
        tmp_path / "without",
        (*EVERYTHING, "training.checkpoint_every_steps=null", "training.checkpoint_every_epochs=null"),
    )
    assert without.go() == 0
    found = differences(without.facts(), whole[0])
    assert {name.split(":")[0] for name in found} == {"files", "epoch_001.pt", "epoch_002.pt"}


def test_oracle_can_tell(whole: tuple[dict[str, Any], list[Instant]]) -> None:
    """The run has what makes a resume hard: its best evaluation is early, and sums are open at some checkpoint."""
    evaluations = {
        line["step"]: line["metrics"]["val/loss"] for line in whole[0]["metrics.jsonl"] if "val/loss" in line["metrics"]
    }
    assert sorted(evaluations) == [4, 6, 8, 12]
    assert min(evaluations, key=evaluations.__getitem__) == 6
    assert sum("replace checkpoints/last.pt" in instant.name for instant in whole[1]) == 4
    assert len(whole[0]["inputs"]) == 22


def test_every_instant_is_in_a_group(whole: tuple[dict[str, Any], list[Instant]]) -> None:
    groups = [re.compile(pattern) for pattern in GROUPS.values()]
    assert [instant for instant in whole[1] if not any(group.search(instant.name) for group in groups)] == []


@pytest.mark.parametrize(
    ("group", "num"),
    [
        *((group, 6 if group == "last.pt" else 2) for group in GROUPS),
        *(pytest.param(group, 30, marks=pytest.mark.long) for group in GROUPS),
    ],
)
def test_run_killed_at_an_instant_ends_with_the_same_bytes(
    group: str, num: int, whole: tuple[dict[str, Any], list[Instant]], directory: Path
) -> None:
    instants = [instant for instant in whole[1] if re.search(GROUPS[group], instant.name)]
    # Checkpoints are written in hundreds of pieces, and those would take all the places of what happens once.
    pieces = [instant for instant in instants if "half a write checkpoints" in instant.name]
    others = [instant for instant in instants if instant not in pieces]
    chosen = evenly(others, num) if not pieces else evenly(others, num - num // 2) + evenly(pieces, num // 2)
    found = {
        instant: wrong
        for number, instant in enumerate(chosen)
        if (wrong := outcome_of_kill(instant, whole[0], directory / str(number)))
    }
    assert found == {}


def test_run_killed_at_every_microbatch_ends_with_the_same_bytes(
    whole: tuple[dict[str, Any], list[Instant]], directory: Path
) -> None:
    trial = Trial(directory)
    microbatches = [instant for instant in whole[1] if re.search(GROUPS["microbatches"], instant.name)]
    assert len(microbatches) == 22
    # One chain: each attempt carries on from a checkpoint and comes to the next microbatch, or is past it already.
    assert [trial.go(instant) for instant in microbatches] == [KILLED] * 22
    assert trial.go() == 0
    assert differences(trial.facts(), whole[0]) == []
    attempts = trial.directory.read_status()["attempts"]
    assert len(attempts) == 23
    # An attempt starts from the last checkpoint that was due before the kill; the third step's comes after two.
    steps = [int(re.match(r"step (\d+)", instant.name)[1]) for instant in microbatches]  # type: ignore[index]
    assert [attempt["from_step"] for attempt in attempts[1:]] == [step // 3 * 3 for step in steps]


@pytest.mark.parametrize("share", [1 / 2, pytest.param(1 / 5, marks=pytest.mark.long)])
def test_run_killed_again_and_again_ends_with_the_same_bytes(
    share: float, whole: tuple[dict[str, Any], list[Instant]], directory: Path
) -> None:
    trial = Trial(directory)
    every, num_kills = int(len(whole[1]) * share), 0
    while (code := trial.go(kill_after=every + 20 * num_kills)) == KILLED:
        num_kills += 1
        assert torn_files(trial.directory.path) == []
    assert code == 0
    assert num_kills > 1
    assert differences(trial.facts(), whole[0]) == []


@functools.cache
def _whole_run(overrides: tuple[str, ...]) -> tuple[dict[str, Any], list[Instant], float]:
    """Return facts and instants of a run that is left alone, and how long it takes."""
    with tempfile.TemporaryDirectory() as path:
        trial = Trial(Path(path), overrides)
        started = time.monotonic()
        assert trial.go() == 0
        return trial.facts(), trial.instants, time.monotonic() - started


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 60))])
def test_run_killed_from_outside_at_random_instants_ends_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    whole, _, seconds = _whole_run(EVERYTHING)
    shares = np.random.default_rng(seed).uniform(0.05, 0.8, 4)
    codes = [0]
    # The first run of a process is slow; a run that is too fast to be killed is tried again with earlier kills.
    while KILLED not in codes:
        trial = Trial(Path(tempfile.mkdtemp(dir=tmp_path)))
        codes = []
        for limit in shares * seconds:
            print("seconds until this kill:", limit)
            codes.append(trial.go(limit=float(limit)))
            assert torn_files(trial.directory.path) == []
        assert set(codes) <= {0, KILLED}
        seconds /= 2
    assert trial.go() == 0
    assert differences(trial.facts(), whole) == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 12))])
def test_command_killed_at_random_instants_ends_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    """The real command in fresh processes, each killed some time after it found its run directory."""
    # Long enough for several kills; the first of them comes while it is still starting.
    overrides = (
        *EVERYTHING,
        "training.max_epochs=10",
        "callbacks.early_stopping.patience=100",
        "callbacks.checkpoints.background=true",
        "tracker=tensorboard",
    )
    whole, _, seconds = _whole_run(overrides)
    arguments = [
        sys.executable,
        str(TRAIN),
        *overrides,
        f"output_dir={tmp_path}",
        "run_id=run",
    ]
    run = tmp_path / "experiments" / "base" / "run"
    generator = np.random.default_rng(seed)
    limits = [float(limit) for limit in generator.uniform(0, [2, *[0.9 * seconds] * (1 if seed == 0 else 3)])]
    print("seconds until each kill:", limits)
    num_kills = 0
    for number, limit in enumerate(limits):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            if number > 0:
                for line in process.stdout:
                    if "run directory" in line:
                        break
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
            num_kills += process.wait() == KILLED
        assert torn_files(run) == []
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(run)
    assert num_kills > 0
    # What was fed cannot be seen from outside.
    assert differences(run_facts(run), {name: fact for name, fact in whole.items() if name != "inputs"}) == []


def kill_within(overrides: tuple[str, ...], num: int, path: Path, changes: tuple[str, ...] = ()) -> None:
    """Kill a run at `num` forward passes in a chain, carry it on, and compare it with one that is left alone."""
    whole, instants, _ = _whole_run(overrides)
    trial = Trial(path, overrides)
    passes = [instant for instant in instants if re.search(GROUPS["microbatches"], instant.name)]
    for instant in evenly(passes, num + 2)[1:-1]:
        assert trial.go(instant, changes=changes if trial.directory.config.exists() else ()) == KILLED
    assert trial.go(changes=changes) == 0
    assert differences(trial.facts(), whole) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_killed_in_training_ends_with_the_same_bytes(variant: str, tmp_path: Path) -> None:
    kill_within((*EVERYTHING, *VARIANTS[variant]), 2, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_killed_at_many_instants_ends_with_the_same_bytes(variant: str, tmp_path: Path) -> None:
    overrides = (*EVERYTHING, *VARIANTS[variant])
    kill_within(overrides, 12, tmp_path / "chain")
    whole, instants, _ = _whole_run(overrides)
    # By their numbers: what a thread writes comes between other steps each time, and has another name then.
    for number in evenly(list(range(1, len(instants) + 1)), 12):
        trial = Trial(tmp_path / str(number), overrides)
        assert trial.go(kill_after=number) == KILLED
        assert trial.go() == 0
        assert differences(trial.facts(), whole) == [], number


@pytest.mark.long
def test_compiled_run_killed_in_training_ends_with_the_same_bytes(tmp_path: Path) -> None:
    kill_within((*EVERYTHING, "training.compile=true"), 3, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "experiment", [("experiment=text_classification", "model=bert_tiny"), ("experiment=language_model",)], ids=" ".join
)
def test_other_experiments_killed_in_training_end_with_the_same_bytes(
    experiment: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = (
        *experiment,
        "experiment_name=base",
        "num_threads=1",
        "training.max_steps=8",
        "training.eval_every_steps=4",
        "training.checkpoint_every_steps=3",
    )
    kill_within(overrides, 4, tmp_path)


@pytest.mark.parametrize(("first", "then"), [(0, 2), (2, 0), (1, 2)])
def test_run_carried_on_with_another_number_of_loader_workers_ends_with_the_same_bytes(
    first: int, then: int, tmp_path: Path
) -> None:
    whole, _, _ = _whole_run(EVERYTHING)
    trial = Trial(tmp_path, (*EVERYTHING, f"data.num_workers={first}"))
    assert trial.go(Instant("step 5: forward pass of training", 1)) == KILLED
    assert trial.go(changes=[f"data.num_workers={then}"]) == 0
    facts = trial.facts()
    assert differences(facts, whole) == []
    assert json.loads(trial.directory.config.read_text())["data"]["num_workers"] == then
