"""A tree without git history, such as an unpacked archive: its code is recorded by the hash of its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_parts import write_data
from tiny_runs import REPOSITORY
from traced_runs import change_json, config_of, first_cause, make_clone, train_in_new_process

from reprise.errors import InputError
from reprise.runs.code_files import code_sha256, tree_of_code
from reprise.runs.provenance import collect_provenance, drift
from reprise.runs.run_directory import RunDirectory
from reprise.tools.checklist.audit import audit
from reprise.tools.reproduction.recorded_code import find_tree
from reprise.tools.reproduction.repeat import reproduce

CODE, AT_HAND = "Code recorded", "Code and parts at hand"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the code as it lies here, without history; tests leave it as it is."""
    path = make_clone(tmp_path_factory.mktemp("archive") / "tree")
    shutil.rmtree(path / ".git")
    return path


@pytest.fixture(scope="module")
def run(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    output = tmp_path_factory.mktemp("recorded")
    points = write_data(tmp_path_factory.mktemp("points") / "points.json")
    return train_in_new_process(config_of(output, points), output, tree / "src").run


@pytest.fixture
def changed(tree: Path, tmp_path: Path) -> Path:
    """Return the tree with one line of one part changed."""
    other = shutil.copytree(tree, tmp_path / "other")
    parts = other / "src" / "tiny_parts.py"
    parts.write_text(parts.read_text().replace("INITIAL_SCALE = 0.05", "INITIAL_SCALE = 0.07"))
    return other


def test_what_decides_about_a_run_is_in_the_hash_and_nothing_else(tmp_path: Path) -> None:
    assert code_sha256(tmp_path) is None
    for name in ("src/a.py", "src/deep/b.py", "configs/train.yaml", "scripts/train.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first = code_sha256(tmp_path)
    for name in ("src/__pycache__/a.pyc", "src/x.egg-info/PKG-INFO", "src/.cache/a", "README.md", "outputs/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert code_sha256(tmp_path) == first
    shutil.copytree(tmp_path, tmp_path / "copy" / "of it")
    assert code_sha256(tmp_path / "copy" / "of it") == first
    (tmp_path / "configs" / "train.yaml").write_text("other")
    changed = code_sha256(tmp_path)
    (tmp_path / "configs" / "train.yaml").rename(tmp_path / "configs" / "other.yaml")
    assert len({first, changed, code_sha256(tmp_path)}) == 3


def test_the_hash_is_recorded_where_there_is_no_commit(tree: Path, run: RunDirectory) -> None:
    code = json.loads(run.provenance.read_text())["code"]
    assert (code["commit"], code["files_sha256"]) == (None, code_sha256(tree))


def lines_of(run: RunDirectory) -> dict[str, tuple[str, str]]:
    return {check.title: (check.verdict, check.evidence) for check in audit(run, ["tiny_parts"])}


def test_the_checklist_passes_on_it_where_the_code_lies_and_fails_elsewhere(run: RunDirectory, tmp_path: Path) -> None:
    recorded = json.loads(run.provenance.read_text())["code"]["files_sha256"]
    lines = lines_of(run)
    by = f"No git history; the code is recorded by the hash of its files, `{recorded[:12]}`."
    assert lines[CODE] == ("passed", by)
    assert lines[AT_HAND] == ("failed", f"The code here is another than `{recorded[:12]}`, by the hash of its files.")
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    change_json(copied.provenance, "code/files_sha256", code_sha256(tree_of_code()))
    here = "It is the code here, by the hash of its files; all parts of the config can be imported."
    assert lines_of(copied)[AT_HAND] == ("passed", here)
    change_json(copied.provenance, "code/files_sha256", None)
    assert lines_of(copied)[CODE][0] == "failed"


def test_code_that_changed_between_two_attempts_is_named(run: RunDirectory, tmp_path: Path) -> None:
    recorded = json.loads(run.provenance.read_text())
    now = {**recorded, "code": {**recorded["code"], "files_sha256": "ab" * 32}}
    assert [fact.key for fact in drift(recorded, now)] == ["code.files_sha256"]


def test_a_run_is_repeated_where_its_code_lies(tree: Path, run: RunDirectory) -> None:
    verdict = reproduce(run.path, steps=2, trusted_packages=["tiny_parts"], clone=tree)
    assert verdict.is_identical
    note = f"the run had no git history; the code in {tree} is what it recorded, by the hash of its files"
    assert note in verdict.notes


def test_other_code_is_refused_and_the_way_out_is_named_and_runs_it(changed: Path, run: RunDirectory) -> None:
    options: dict[str, Any] = {"steps": 2, "trusted_packages": ["tiny_parts"], "clone": changed}
    with pytest.raises(InputError, match=rf"the code in {changed} is not what it recorded.*or use --current-code$"):
        reproduce(run.path, **options)
    verdict = reproduce(run.path, current_code=True, **options)
    assert first_cause(verdict) == "the code here is another, by the hash of its files"
    assert f"the repeat ran the code that lies in {changed}, not the recorded code" in verdict.notes


@pytest.mark.parametrize(("variable", "value"), [("GIT_DIR", "/there/is/none"), ("PATH", "")])
def test_without_history_or_without_git_the_way_out_is_named(
    variable: str, value: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = f"{tree_of_code()} is no git clone, which the recorded code could come from; --current-code runs"
    with pytest.raises(InputError, match=f"^{message}"):
        reproduce(finished_run)
    assert find_tree() == tree_of_code() == REPOSITORY  # where --current-code takes the code from
    code = collect_provenance((), torch.device("cpu"))["code"]
    assert (code["commit"], code["files_sha256"]) == (None, code_sha256(REPOSITORY))
