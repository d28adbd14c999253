"""`scripts/reproduce.py`: a child process trains again with the recorded code, and nothing is left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_parts import write_data
from tiny_runs import REPOSITORY
from traced_runs import (
    Traced,
    change_json,
    config_of,
    first_cause,
    git,
    make_clone,
    train_in_new_process,
)

from reprise.config.composed import Composed
from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.reproduction.repeat import reproduce


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("points") / "points.json")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with the code as it lies here; tests leave it as it is."""
    return make_clone(tmp_path_factory.mktemp("clone") / "clone")


@pytest.fixture(scope="module")
def recorded_in_clone(clone: Path, points: Path, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Return a run whose code has a change that was never committed, and is gone now."""
    output = tmp_path_factory.mktemp("recorded")
    parts = clone / "src" / "tiny_parts.py"
    committed = parts.read_text()
    parts.write_text(committed.replace("INITIAL_SCALE = 0.05", "INITIAL_SCALE = 0.07"))
    recorded = train_in_new_process(config_of(output, points), output, clone / "src")
    parts.write_text(committed)
    return recorded


@pytest.fixture
def _leaves_nothing(clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = git(clone, "worktree", "list"), git(clone, "status", "--porcelain"), git(clone, "count-objects")
    yield
    assert list(scratch.iterdir()) == []
    assert (git(clone, "worktree", "list"), git(clone, "status", "--porcelain"), git(clone, "count-objects")) == before


def start_script(clone: Path, run: RunDirectory, *arguments: str) -> subprocess.Popen[str]:
    """Start `scripts/reproduce.py` as it would be in `clone`."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "reproduce.py"), str(run.path), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("_leaves_nothing")
def test_script_repeats_a_run_with_its_commit_and_patch(clone: Path, recorded_in_clone: Traced) -> None:
    script = start_script(clone, recorded_in_clone.run)
    said, errors = script.communicate()
    assert (script.returncode, said.splitlines()[0]) == (0, "bit-identical"), said + errors
    assert "uncommitted changes, applied: src/tiny_parts.py" in said


@pytest.mark.usefixtures("_leaves_nothing")
def test_script_names_code_that_differs_and_ends_with_3(clone: Path, recorded_in_clone: Traced) -> None:
    script = start_script(clone, recorded_in_clone.run, "--current-code", "--steps", "2")
    said, errors = script.communicate()
    assert (script.returncode, said.splitlines()[0]) == (3, "differs from step 0 on"), said + errors
    assert "cause first:\n  1. the code differs in these files: src/tiny_parts.py\n" in said
    assert "differ of 2; first at step 1" in said
    assert "only the first 2 of 15 steps were compared" in said


@pytest.mark.long
@pytest.mark.usefixtures("_leaves_nothing")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_script_that_is_stopped_leaves_nothing(name: str, clone: Path, recorded_in_clone: Traced) -> None:
    script = start_script(clone, recorded_in_clone.run)
    assert script.stderr is not None
    assert "run directory" in script.stderr.readline()  # said by the child, of the repeat
    script.send_signal(signal.Signals[name])
    script.communicate()
    assert script.returncode == 75


@pytest.mark.long
@pytest.mark.usefixtures("_leaves_nothing")
def test_data_that_depend_on_an_open_hash_seed(clone: Path, points: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, points, data___target_="tiny_parts.load_words")
    recorded = train_in_new_process(config, tmp_path, clone / "src", PYTHONHASHSEED="random")
    change_json(recorded.run.provenance, "determinism/PYTHONHASHSEED", None)
    verdict = reproduce(recorded.run.path, clone=clone, steps=2)
    assert first_cause(verdict).startswith("the run is not repeatable: two repeats here differ too (data split `train`")
    assert "Candidates: data code that iterates over a `set`: PYTHONHASHSEED was not set" in first_cause(verdict)


def test_package_that_only_the_run_directory_trusts_is_refused(points: Path, tmp_path: Path) -> None:
    run = train(Composed(config_of(tmp_path, points), (), {}))
    with pytest.raises(InputError, match=r"cannot be repeated here(.|\n)*tiny_parts.*is in no trusted package"):
        reproduce(run, clone=REPOSITORY, current_code=True, steps=1)


@pytest.mark.usefixtures("_leaves_nothing")
def test_patch_that_this_clone_did_not_make_runs_when_it_is_trusted(
    clone: Path, recorded_in_clone: Traced, tmp_path: Path
) -> None:
    run = copy_of(recorded_in_clone.run, tmp_path)
    run.code_patch.write_text("no patch")
    with pytest.raises(InputError, match=r"code\.patch does not fit the recorded commit"):
        reproduce(run.path, clone=clone, trust_code=True)


def test_uncommitted_changes_that_are_lost(clone: Path, recorded_in_clone: Traced, tmp_path: Path) -> None:
    run = copy_of(recorded_in_clone.run, tmp_path)
    run.code_patch.unlink()
    verdict = reproduce(run.path, clone=clone, steps=2)
    assert first_cause(verdict).startswith("the recorded code had uncommitted changes, and there is no code.patch")


@pytest.mark.usefixtures("_leaves_nothing")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: change_json(run.provenance, "code/commit", "0" * 40), "is not in the clone .* --current-code"),
        (lambda run: change_json(run.provenance, "code/commit", "--force"), "is not in the clone"),
        (lambda run: change_json(run.provenance, "code/commit", None), "did not record its commit"),
        (lambda run: run.code_patch.write_text("a patch"), r"code\.patch is code that was not made in .*--trust-code"),
        (lambda run: run.config.unlink(), "not the directory of a run"),
        (lambda run: (run.metrics_log.unlink(), run.last_checkpoint.unlink()), "has done no step"),
    ],
)
def test_run_that_cannot_be_repeated_is_refused(
    change: Callable[[RunDirectory], Any], message: str, clone: Path, recorded_in_clone: Traced, tmp_path: Path
) -> None:
    run = copy_of(recorded_in_clone.run, tmp_path)
    change(run)
    with pytest.raises(InputError, match=message):
        reproduce(run.path, clone=clone)


@pytest.mark.usefixtures("_leaves_nothing")
def test_code_from_before_runs_could_be_repeated_is_refused(
    clone: Path, recorded_in_clone: Traced, tmp_path: Path
) -> None:
    run = copy_of(recorded_in_clone.run, tmp_path)
    old = tmp_path / "old"
    (old / "src" / "reprise").mkdir(parents=True)
    (old / "src" / "reprise" / "__init__.py").write_text("")
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=old"]):
        git(old, *arguments)
    change_json(run.provenance, "code/commit", git(old, "rev-parse", "HEAD").strip())
    run.code_patch.unlink()
    with pytest.raises(InputError, match=r"from before runs could be repeated.*--current-code"):
        reproduce(run.path, clone=old)


def copy_of(run: RunDirectory, place: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(run.path, place / "copy"))
