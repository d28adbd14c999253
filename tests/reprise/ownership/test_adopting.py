"""A clone becomes one's own, whatever interrupts that, and nothing of the user's is lost."""

import os
import re
import shutil
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tiny_template import (
    AUTHOR,
    FILES,
    clone,
    commit,
    copy_without_history,
    git,
    kill_at,
    snapshot,
    write,
)

import reprise
from reprise.errors import InputError
from reprise.tools.ownership.adopting import Adoption, plan_adoption
from reprise.tools.ownership.halves import RECORD, is_engine
from reprise.tools.ownership.record import read_record
from reprise.tools.ownership.work_tree import File

EXAMPLE_FILES = {"configs/experiment/words.yaml", "configs/data/words.yaml", "src/project/data/words.py"}


@pytest.fixture(scope="module")
def cloned(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(original, tmp_path_factory.mktemp("cloned") / "clone")


@pytest.fixture
def root(cloned: Path, tmp_path: Path) -> Path:
    return shutil.copytree(cloned, tmp_path / "clone")


def adopt(root: Path, name: str = "tumour-lab", **options: object) -> Adoption:
    adoption = plan_adoption(root, name, **{"author": AUTHOR, **options})  # type: ignore[arg-type]
    adoption.carry_out()
    return adoption


def test_package_tests_and_configs_have_the_projects_name(root: Path) -> None:
    adopt(root, keep=["points"])
    files = snapshot(root)
    assert not any(path.startswith(("src/project", "tests/project")) for path in files)
    assert not (root / "src" / "project").exists()
    assert files["configs/data/points.yaml"] == b"_target_: tumour_lab.data.points.load\n"
    assert files["src/tumour_lab/data/points.py"].startswith(b"from tumour_lab.data import both\n")
    assert files["src/tumour_lab/data/points.py"].endswith(b"# project.md is no module\n")
    assert "tests/tumour_lab/test_base.py" in files


def test_examples_that_are_not_kept_are_gone_and_what_a_kept_one_needs_stays(root: Path) -> None:
    adopt(root, keep=["points"])
    files = snapshot(root)
    assert not EXAMPLE_FILES.intersection(files)
    assert "src/tumour_lab/data/both.py" in files
    assert "  - data: points\n" in files["configs/train.yaml"].decode()
    assert files["configs/train.yaml"].endswith(b"what people run: base\n")


def test_editors_know_the_targets_that_are_left(root: Path) -> None:
    adopt(root, keep=["points"])
    text = (root / ".vscode" / "own_targets.json").read_text()
    assert re.findall(r'"const": "(.*)"', text) == ["tumour_lab.data.points.load"]


def test_without_examples_there_is_an_experiment_to_start_with(root: Path) -> None:
    adopt(root)
    files = snapshot(root)
    assert not any("points" in path or "words" in path or "both" in path for path in files)
    assert b"- override /data: spirals" in files["configs/experiment/base.yaml"]
    assert b"tumour_lab.data.spirals.load_spirals" in files["configs/data/spirals.yaml"]
    assert files["configs/train.yaml"].startswith(b"defaults:\n  - data: spirals\n  - model: mlp\n")
    compile(files["src/tumour_lab/data/spirals.py"], "spirals.py", "exec")
    compile(files["src/tumour_lab/models/mlp.py"], "mlp.py", "exec")


def test_documents_and_pyproject_are_the_projects_own(root: Path) -> None:
    adopt(root, license_id="MIT")
    text = (root / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    assert (project["name"], project["version"], project["license"]) == ("tumour-lab", "0.1.0", "MIT")
    assert project["authors"] == [{"name": "Ada Lovelace", "email": "ada@example.org"}]
    assert '"numpy>=2", # arrays' in text
    assert "line-length = 120 # characters" in text
    assert '"tumour-lab[ray]"' in text
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["title"], citation["license"]) == ("1.2.0", "tumour-lab", "MIT")
    assert citation["authors"] == [{"name": "Ada Lovelace", "email": "ada@example.org"}]
    assert "Ada Lovelace" in (root / "LICENSE").read_text()
    readme = (root / "README.md").read_text()
    assert readme.startswith("# tumour-lab\n")
    assert "uv run python scripts/train.py experiment=base" in readme
    assert "uv run --group dev pytest -n auto" in readme
    assert reprise.__version__ in (root / "CHANGELOG.md").read_text()


def test_without_a_licence_nobody_is_given_one(root: Path) -> None:
    adopt(root)
    assert not (root / "LICENSE").exists()
    assert "license" not in tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert "license" not in yaml.safe_load((root / "CITATION.cff").read_text())


def test_other_licences_are_named(root: Path) -> None:
    adopt(root, license_id="Apache-2.0")
    assert "SPDX-License-Identifier: Apache-2.0" in (root / "LICENSE").read_text()


def test_the_engine_stays_as_it_is_and_is_recorded(root: Path) -> None:
    before = snapshot(root)
    adopt(root)
    after = snapshot(root)
    engine = {path for path in before if is_engine(path)}
    assert {path: after[path] for path in engine} == {path: before[path] for path in engine}
    record = read_record(File(after[RECORD]))
    assert record.version == reprise.__version__
    assert record.files["src/reprise/loop.py"] == git(root, "hash-object", "src/reprise/loop.py").strip()
    assert record.pyproject == tomllib.loads(FILES["pyproject.toml"])
    assert engine < record.files.keys()


def test_git_status_holds_that_change_alone(root: Path) -> None:
    adoption = adopt(root)
    status = git(root, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(line[3:] for line in status) == sorted(adoption.target)
    assert adoption.text()


def test_the_address_of_the_template_is_recorded_without_credentials_and_without_paths(
    template: Path, tmp_path: Path
) -> None:
    for number, (address, recorded) in enumerate(
        [
            ("https://me:token@example.org/a/template.git", "https://example.org/a/template.git"),
            ("git@example.org:a/template.git", "git@example.org:a/template.git"),
            (str(template), None),
        ]
    ):
        root = clone(template, tmp_path / str(number))
        git(root, "remote", "set-url", "origin", address)
        adopt(root)
        assert read_record(File((root / RECORD).read_bytes())).template == recorded


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: write(root, {"README.md": "mine\n"}),
        lambda root: write(root, {"notes.txt": "mine\n"}),
        lambda root: write(root, {"src/tumour_lab/data/spirals.py": "mine\n"}),
        lambda root: git(root, "rm", "--quiet", "Dockerfile"),
    ],
)
def test_uncommitted_changes_are_refused_before_anything_is_touched(
    root: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(root)
    before = snapshot(root)
    with pytest.raises(InputError, match="not committed"):
        adopt(root)
    assert snapshot(root) == before


def test_ignored_file_in_the_way_is_not_overwritten(root: Path) -> None:
    commit(root, {".gitignore": "spirals.py\n"})
    write(root, {"src/tumour_lab/data/spirals.py": "mine\n"})
    with pytest.raises(InputError, match=r"spirals\.py: not committed"):
        adopt(root)


def test_lock_that_uv_writes_does_not_count_as_a_change(root: Path) -> None:
    write(root, {"uv.lock": "version = 1\n"})
    adopt(root)


def test_adoption_killed_at_any_instant_is_completed_by_the_same_command(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clone(template, tmp_path / "whole")
    adopt(whole)
    root = clone(template, tmp_path / "clone")
    instant = 0
    while kill_at(instant := instant + 1, lambda: adopt(root), monkeypatch):
        pass
    assert instant > 30
    assert snapshot(root) == snapshot(whole)
    for path in ("scripts/lock", "README.md"):
        assert stat.S_IMODE((root / path).stat().st_mode) == stat.S_IMODE((whole / path).stat().st_mode)


def test_interrupted_adoption_under_another_name_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kill_at(20, lambda: adopt(root), monkeypatch)
    with pytest.raises(InputError, match="git stash --include-untracked"):
        adopt(root, "other-name")


def test_adopted_project_is_not_adopted_again(root: Path) -> None:
    adopt(root)
    commit(root, {})
    with pytest.raises(InputError, match="adopted already"):
        adopt(root, "other-name")


def test_copy_without_history_is_adopted_all_the_same(template: Path, tmp_path: Path) -> None:
    root = copy_without_history(template, tmp_path / "copy")
    adopt(root)
    assert (root / RECORD).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2fast", "beginning with a letter"),
        ("my lab", "letters, digits"),
        ("../out", "letters, digits"),
        ("lab-", "letters, digits"),
        ("class", "keyword"),
        ("json", "standard library"),
        ("Reprise", "this repository has already"),
        ("tests", "this repository has already"),
        ("torch", "installed package"),
        ("ray", "installed package"),
        ("yaml", "installed package"),
        ("pytest", "installed package"),
    ],
)
def test_name_that_would_not_work_is_refused(root: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"NAME: .*{message}"):
        adopt(root, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ["pints"]}, "--keep pints: unknown; did you mean `points`"),
        ({"license_id": "MIT; rm"}, "--license: expected an SPDX identifier"),
        ({"author": "<ada@example.org>"}, "--author: expected"),
        ({"author": 'Ada" }\nevil'}, "--author: expected"),
    ],
)
def test_wrong_options_are_refused(root: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adopt(root, **options)


def test_author_is_the_one_of_git(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_CONFIG_COUNT", raising=False)  # which wins over the files
    git(root, "config", "user.name", "Grace Hopper")
    git(root, "config", "user.email", "grace@example.org")
    adoption = plan_adoption(root, "tumour-lab")
    assert (adoption.identity.author, adoption.identity.email) == ("Grace Hopper", "grace@example.org")


def test_author_has_to_be_given_where_git_knows_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_CONFIG_COUNT", raising=False)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(InputError, match="--author: not given"):
        plan_adoption(root, "tumour-lab")


def test_folder_that_is_no_clone_is_refused(template: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a git repository"):
        adopt(tmp_path)
    with pytest.raises(InputError, match="expected the top of a git repository"):
        adopt(template / "src")
