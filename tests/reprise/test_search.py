"""A search asks Optuna for trials, tells it how they ended, and carries on from its study after a kill."""

import json
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import optuna
import pytest
from harness import differences, run_facts
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState
from sweeping import command, runs, sweep

from reprise.errors import ConfigError
from reprise.runs.metrics_log import read_metrics
from reprise.runs.sweep_directory import SweepDirectory, create_or_open_sweep
from reprise.tools.reproduction.repeat import reproduce
from reprise.tools.sweep.search import Search, search_space
from reprise.tools.sweep.summary import summarize

SPACE = ("a=tag(log,interval(1e-4,1e-1))", "b=int(interval(1,8))", "c=choice(x,y)", "d=range(16,80,16)", "e=7")
SAMPLERS = [
    ("TPESampler", {"n_startup_trials": 3}),
    ("NSGAIISampler", {"population_size": 2}),
    ("RandomSampler", {}),
    pytest.param("GPSampler", {"n_startup_trials": 3}, marks=pytest.mark.long),
]


def space(*overrides: str) -> Any:
    return search_space(OverridesParser.create().parse_overrides(list(overrides)))


def open_search(
    path: Path,
    metrics: dict[str, str] | None = None,
    sampler: str = "RandomSampler",
    overrides: tuple[str, ...] = SPACE,
    **options: Any,
) -> tuple[Search, SweepDirectory]:
    directory = create_or_open_sweep(path, "base", "s")
    target = {"_target_": f"optuna.samplers.{sampler}", **options}
    fixed, found = space(*overrides)
    return Search(directory, fixed, found, metrics or {"val/loss": "min"}, target, seed=1), directory


def study(directory: SweepDirectory) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{directory.study}")


def outcome(directory: SweepDirectory, run_id: str, overrides: list[str], **facts: Any) -> dict[str, Any]:
    """Return what a job with these overrides would come to, as recorded."""
    values = dict(line.split("=") for line in overrides)
    metrics = {"val/loss": float(values["a"]) * int(values["b"]), "val/accuracy": 1 / int(values["b"])}
    found = {"run_id": run_id, "overrides": overrides, "status": "completed", "reason": None, "traceback": None}
    found |= {"monitor": None, "metrics": metrics} | facts
    directory.record(run_id).write_text(json.dumps(found))
    return found


def carry_on(path: Path, num_trials: int, **options: Any) -> Generator[tuple[str, list[str]], None, None]:
    """Carry out a search whose jobs take no time, and yield its trials."""
    search, directory = open_search(path, **options)
    for run_id, overrides in search.trials(num_trials):
        yield run_id, overrides
        search.tell(outcome(directory, run_id, overrides))


@pytest.mark.parametrize(("sampler", "options"), SAMPLERS)
def test_the_same_search_gives_the_same_trials_also_when_it_is_stopped_and_grows(
    tmp_path: Path, sampler: str, options: dict[str, Any]
) -> None:
    alone = list(carry_on(tmp_path / "alone", 6, sampler=sampler, **options))
    assert len({run_id for run_id, _ in alone}) == 6
    stopped = carry_on(tmp_path / "stopped", 5, sampler=sampler, **options)
    first = [next(stopped) for _ in range(5)]
    stopped.close()  # the fifth trial is still under way
    second = list(carry_on(tmp_path / "stopped", 6, sampler=sampler, **options))
    assert [*first[:-1], *second] == alone


def test_values_lie_in_the_space_and_what_is_given_is_the_same_in_all(tmp_path: Path) -> None:
    for _, overrides in carry_on(tmp_path, 4):
        given, *drawn = overrides
        values = dict(line.split("=") for line in drawn)
        assert given == "e=7"
        assert 1e-4 <= float(values["a"]) <= 1e-1
        assert (1 <= int(values["b"]) <= 8, values["c"] in "xy", int(values["d"]) in (16, 32, 48, 64)) == (True,) * 3


def test_trials_are_told_as_what_they_were(tmp_path: Path) -> None:
    search, directory = open_search(tmp_path)
    ends: list[dict[str, Any]] = [
        {},
        {"status": "failed", "reason": "NonFiniteError: val/loss is nan"},
        {"reason": "pruned by the MedianPruner after evaluation 3, step 18"},
        {"status": "interrupted", "reason": "by SIGTERM"},
    ]
    for end, (run_id, overrides) in zip(ends, search.trials(4), strict=True):
        search.tell(outcome(directory, run_id, overrides, **end))
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING]
    assert [trial.state for trial in study(directory).trials] == states
    summary = summarize(directory)
    assert summary.num_jobs == {"completed": 1, "pruned": 1, "interrupted": 1, "failed": 1}
    assert [job.status for job in summary.best] == ["completed"]
    search, _ = open_search(tmp_path)
    assert [run_id for run_id, _ in search.trials(4)] == [summary.jobs[2].run_id]


def test_a_trial_that_was_killed_while_it_was_drawn_is_drawn_again(tmp_path: Path) -> None:
    alone = [overrides for _, overrides in carry_on(tmp_path / "alone", 3)]
    list(carry_on(tmp_path / "killed", 1))
    _, directory = open_search(tmp_path / "killed")
    study(directory).ask().suggest_float("a", 1e-4, 1e-1, log=True)
    assert [overrides for _, overrides in carry_on(tmp_path / "killed", 3)] == alone[1:]


def test_trials_that_are_under_way_together_are_told_apart(tmp_path: Path) -> None:
    search, directory = open_search(tmp_path, overrides=("a=choice(0.1,0.2)", "b=1"))
    trials = list(search.trials(4))
    assert len({run_id for run_id, _ in trials}) <= 2
    for run_id, overrides in reversed(trials):
        search.tell(outcome(directory, run_id, overrides))
    values = [(trial.values, trial.params["a"]) for trial in study(directory).trials]
    assert values == [([float(a)], a) for _, a in values]


def test_a_search_for_two_metrics_comes_to_what_no_other_is_better_than(tmp_path: Path) -> None:
    list(carry_on(tmp_path, 8, metrics={"val/loss": "min", "val/accuracy": "min"}))
    directory = create_or_open_sweep(tmp_path, "base", "s")
    best = {trial.user_attrs["run_id"] for trial in study(directory).best_trials}
    assert {job.run_id for job in summarize(directory).best} == best
    assert len(best) > 1


def test_a_search_goes_on_only_with_the_same_space(tmp_path: Path) -> None:
    open_search(tmp_path)
    with pytest.raises(ConfigError) as raised:
        open_search(tmp_path, overrides=(*SPACE[1:], "a=tag(log,interval(1e-3,1e-1))"))
    assert raised.value.headline.startswith("the search 's' exists with another space; ")
    assert [problem.key for problem in raised.value.problems] == ["space.a.attributes.low"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a=interval(2,1)", "interval(2,1): "),
        ("a=tag(log,interval(0,1))", "tag(log,interval(0,1)): "),
        ("a=tag(lg,interval(1,2))", "tag(lg,interval(1,2)): expected the tag log, got lg"),
        ("a=tag(log,choice(1,2))", "tag(log,choice(1,2)): only an interval or a range can be logarithmic"),
        ("a=1", "a search needs a key with a range, KEY=interval(0.1, 0.5)"),
    ],
)
def test_a_mistake_in_the_space_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        space(override)
    (problem,) = raised.value.problems
    assert problem.key in ("a", "hydra.sweeper.params")
    assert problem.message.startswith(message)


# Real runs from here on.

SEARCH = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=5",
    "training.learning_rate=tag(log,interval(1e-4,1e-1))",
    "callbacks=[default,pruning]",
    "callbacks.pruning.pruner.n_startup_trials=1",
    "callbacks.pruning.pruner.n_warmup_steps=0",
    "training.max_epochs=4",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output directory of a search that was left alone, and in which some trials were pruned."""
    output_dir = tmp_path_factory.mktemp("whole")
    done = sweep(output_dir, *SEARCH)
    assert (done.returncode, done.stderr) == (0, "")
    return output_dir


def test_a_pruned_trial_is_a_complete_run_that_says_so(whole: Path) -> None:
    directory = SweepDirectory(whole / "experiments" / "base" / "sweeps" / "s")
    pruned = [trial for trial in study(directory).trials if trial.state is TrialState.PRUNED]
    assert 0 < len(pruned) < 5
    for trial in pruned:
        run = runs(whole)[trial.user_attrs["run_id"]]
        status = run.read_status()
        assert status["status"] == "completed"
        number = len(trial.intermediate_values)
        assert status["reason"].startswith(f"pruned by the MedianPruner after evaluation {number}, step ")
        entries = read_metrics(run.metrics_log)
        values = [entry.metrics["val/loss"] for entry in entries if "val/loss" in entry.metrics]
        assert list(trial.intermediate_values.values()) == values
        assert run.model_card.exists()
    assert summarize(directory).num_jobs == {"completed": 5 - len(pruned), "pruned": len(pruned)}


@pytest.mark.long
def test_a_pruned_run_is_repeated_to_where_it_was_pruned(whole: Path) -> None:
    pruned = [run for run in runs(whole).values() if run.read_status()["reason"].startswith("pruned")]
    findings = reproduce(pruned[0].path, current_code=True).findings
    assert findings.are_equal
    assert "metrics" in findings.compared_results


@pytest.mark.long
def test_a_search_that_is_killed_ends_with_the_same_trials_and_bits(whole: Path, tmp_path: Path) -> None:
    for position in ("job 1 of 5", "run directory", "job 3 of 5"):
        with subprocess.Popen(command(tmp_path, *SEARCH), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if position in line:
                    break
            process.send_signal(signal.SIGKILL)
    done = sweep(tmp_path, *SEARCH)
    assert (done.returncode, done.stderr) == (0, "")
    assert runs(tmp_path).keys() == runs(whole).keys()
    for run_id, run in runs(tmp_path).items():
        assert differences(run_facts(run.path), run_facts(runs(whole)[run_id].path)) == []


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_search_runs_on_every_launcher(tmp_path: Path, launcher: str) -> None:
    done = sweep(tmp_path, *SEARCH, f"hydra/launcher={launcher}", "hydra.launcher.n_jobs=2")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    directory = SweepDirectory(tmp_path / "experiments" / "base" / "sweeps" / "s")
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study(directory).trials)
    assert len(runs(tmp_path)) == 5
