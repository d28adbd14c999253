"""Benchmarks can be run: the configs of their contestants are those of today, and the contestants do their work."""

import ast
import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import REPOSITORY, compose

BENCHMARKS = REPOSITORY / "benchmarks"
RACES = ["tiny", "vit", "deterministic", "start", "checkpoint", "memory", "sweep", "log", "index", "records"]
OF_MANY_RUNS = ["compare", "report"]
ON_GPU = ["gpu"]


class Raced(Exception):
    """Contestants are ready to be measured."""


@pytest.fixture
def contestants(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that says whom a benchmark would measure."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run as benchmarks
    import scaling
    import start_up

    assert list(benchmarks.BENCHMARKS) == RACES + OF_MANY_RUNS + ON_GPU
    found = []

    def race(contestants: Any, *_: Any, **__: Any) -> None:
        found.extend(contestants)
        raise Raced

    for module in (benchmarks.checkpoint_stall, benchmarks.peak_memory, benchmarks.sweep_overhead, scaling, start_up):
        monkeypatch.setattr(module, "race", race)
    monkeypatch.setattr(benchmarks.step_time, "race", race)
    monkeypatch.setattr(benchmarks.gpu_training, "race", race)
    monkeypatch.setattr(benchmarks.gpu_training, "has_gpu", lambda: True)
    monkeypatch.setattr(scaling, "run", lambda contestant: race([contestant]))
    monkeypatch.setattr(start_up, "run", lambda contestant: None)  # once before the race

    def of(name: str) -> Any:
        with pytest.raises(Raced):
            benchmarks.BENCHMARKS[name](1)
        return found

    return of


@pytest.mark.parametrize("name", RACES + ON_GPU)
def test_configs_of_benchmarks_are_valid(name: str, contestants: Any, tmp_path: Path) -> None:
    places = {"{report}": str(tmp_path / "report"), "{outputs}": str(tmp_path)}
    for contestant in contestants(name):
        script, *arguments = contestant.command
        assert Path(script).exists()
        if script.endswith("scripts/train.py"):
            for place, path in places.items():
                arguments = [argument.replace(place, path) for argument in arguments]
            compose(*arguments)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_import_from_the_engine_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("reprise"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_benchmarks_of_many_runs_make_them(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling

    scaling.make_runs(finished_run, tmp_path, [1, 3])
    assert [len(list(tmp_path.glob(f"{scale}/experiments/many/*/config.json"))) for scale in (1, 3)] == [1, 3]


@pytest.mark.parametrize("how", ["hydra", "reprise"])
def test_a_sweep_is_timed_and_leaves_nothing_here(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from measuring import run
    from sweep_overhead import contestant

    assert run(contestant(how, 2)).report.keys() == {"outside", "job", "compose"}
    assert not (REPOSITORY / "multirun.yaml").exists()  # Hydra's own record


def test_waiting_for_a_gpu_is_counted_for_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from workloads.callbacks import Synchronisations

    counting = Synchronisations(str(tmp_path / "report"), leave_after=9)
    run: Any = SimpleNamespace(device=torch.device("cpu"), loop=SimpleNamespace(step=0))
    with warnings.catch_warnings():
        counting.on_epoch_start(run)
        for num in (2, 0, 1):
            for _ in range(num):
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # the text is torch's
            run.loop.step += 1
            counting.on_step_end(run)
    assert counting._counts == {1: 2, 2: 0, 3: 1}


@pytest.mark.long
@pytest.mark.parametrize("workload", ["bert_trial", "gpt2_trial"])
def test_contestants_on_a_gpu_do_their_work_on_a_cpu_too(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_training

    step, rates, *_, waits = gpu_training.training(1, workload, "cpu")
    assert "× bare" in step.value
    assert rates.bare
    assert rates.ours
    assert (waits.ours, waits.value, waits.reached) == ("0", "0 with a line", True)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in RACES + OF_MANY_RUNS if name != "log"])  # that is a million steps
def test_benchmark_ends_with_a_table(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), name, "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.partition("| what |")[2].splitlines()) > 2
