"""A newer engine is taken as a whole, and what is the user's stays."""

import os
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

from reprise.errors import Failure, InputError
from reprise.tools.ownership import updating
from reprise.tools.ownership.adopting import plan_adoption
from reprise.tools.ownership.halves import RECORD
from reprise.tools.ownership.record import read_record
from reprise.tools.ownership.updating import Update, plan_update
from reprise.tools.ownership.work_tree import File

NEWER = {
    "README.md": "# Newer template\n",
    "src/project/data/points.py": "an example that got better\n",
    "configs/data/points.yaml": "_target_: project.data.points.load\nnoise: 1\n",
    "src/reprise/__init__.py": '__version__ = "0.3.0"\n',
    "src/reprise/loop.py": "steps = 2\n",
    "src/reprise/new/part.py": "",
    "pyproject.toml": FILES["pyproject.toml"].replace("torch>=2.11", "torch>=2.12").replace('"0.2.0"', '"0.3.0"'),
}
MINE = {
    "src/tumour_lab/mine.py": "mine = 1\n",
    "configs/experiment/mine.yaml": "defaults: []\n",
    "README.md": "# My own words\n",
    "scripts/download.py": "mine\n",
    "docs/results.md": "mine\n",
}


@pytest.fixture(autouse=True)
def no_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are renewed where there is uv; here the tests say whether there is."""
    monkeypatch.setattr(updating, "_uv", lambda: None)


@pytest.fixture(params=[clone, copy_without_history], scope="module")
def adopted(request: pytest.FixtureRequest, original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with work of the user's, made from a clone and from a copy that shares no history."""
    return make_project(original, tmp_path_factory.mktemp("adopted") / "project", request.param)


@pytest.fixture
def project(adopted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(adopted, tmp_path / "project")


def make_project(template: Path, root: Path, copy: Callable[[Path, Path], Path] = clone, *keep: str) -> Path:
    copy(template, root)
    plan_adoption(root, "tumour-lab", author=AUTHOR, keep=keep or ["points"]).carry_out()
    commit(root, MINE)
    return root


def update(root: Path, source: Path | str | None, ref: str | None = None) -> Update:
    plan = plan_update(root, None if source is None else str(source), ref)
    plan.refuse_losses()
    plan.carry_out()
    return plan


def test_engine_is_replaced_and_the_users_work_untouched(template: Path, project: Path) -> None:
    before = snapshot(project)
    git(template, "rm", "--quiet", "docs/page.md")
    newer = commit(template, NEWER)
    plan = update(project, template)
    after = snapshot(project)
    assert after["src/reprise/loop.py"] == b"steps = 2\n"
    assert "src/reprise/new/part.py" in after
    assert "docs/page.md" not in after
    engine = {"src/reprise/__init__.py", "src/reprise/loop.py", "src/reprise/new/part.py", "docs/page.md"}
    assert {path for path in before | after if before.get(path) != after.get(path)} == {
        *engine,
        "pyproject.toml",
        RECORD,
    }
    project_table = tomllib.loads(after["pyproject.toml"].decode())["project"]
    assert (project_table["name"], project_table["version"]) == ("tumour-lab", "0.1.0")
    assert "torch>=2.12" in project_table["dependencies"]
    record = read_record(File(after[RECORD]))
    assert (record.version, record.commit) == ("0.3.0", newer)
    assert "0.2.0 → 0.3.0" in plan.text()


def test_second_update_has_nothing_to_do_and_a_third_compares_with_the_second(template: Path, project: Path) -> None:
    commit(template, NEWER)
    update(project, template)
    commit(project, {})
    assert "nothing changes" in plan_update(project, str(template), None).text()
    commit(template, {"src/reprise/loop.py": "steps = 3\n"})
    update(project, template)
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 3\n"


def test_plan_alone_changes_nothing(template: Path, project: Path) -> None:
    commit(template, NEWER)
    commit(project, {"src/reprise/loop.py": "steps = 7\n"})
    before, references = snapshot(project), git(project, "count-objects", "-v")
    text = plan_update(project, str(template), None).text()
    assert "changes 3 files: pyproject.toml, src/reprise/__init__.py, src/reprise/loop.py" in text
    assert "adds 1 file: src/reprise/new/part.py" in text
    assert "torch>=2.11 → torch>=2.12" in text
    assert "would lose your changes in: src/reprise/loop.py" in text
    assert snapshot(project) == before
    assert git(project, "count-objects", "-v") == references


@pytest.mark.parametrize("newer", [NEWER, {"docs/page.md": "# Newer\n"}])
def test_edited_engine_is_refused_with_every_name_unless_told_to(
    template: Path, project: Path, newer: dict[str, str]
) -> None:
    commit(template, newer)
    edits = {"src/reprise/loop.py": "steps = 7\n", "scripts/lock": "mine\n"}
    edited = commit(project, edits)
    before = snapshot(project)
    with pytest.raises(InputError, match=r"scripts/lock, src/reprise/loop\.py: changed here"):
        update(project, template)
    assert snapshot(project) == before
    plan_update(project, str(template), None).carry_out()
    assert (project / "src" / "reprise" / "loop.py").read_text() == (template / "src/reprise/loop.py").read_text()
    assert git(project, "show", f"{edited}:src/reprise/loop.py") == "steps = 7\n"


def test_edit_made_before_adopting_is_noticed(template: Path, tmp_path: Path) -> None:
    root = copy_without_history(template, tmp_path / "copy")
    commit(root, {"src/reprise/loop.py": "steps = 7\n", "pyproject.toml": FILES["pyproject.toml"] + "\n[tool.mine]\n"})
    plan_adoption(root, "tumour-lab", author=AUTHOR).carry_out()
    commit(root, {})
    commit(template, NEWER)
    with pytest.raises(InputError, match=r"src/reprise/loop\.py: changed here"):
        update(root, template)
    plan_update(root, str(template), None).carry_out()
    text = (root / "pyproject.toml").read_text()
    assert "[tool.mine]" in text
    assert "torch>=2.11" in text  # nobody knows whose line it is


def test_edit_that_the_template_has_made_too_is_no_loss(template: Path, project: Path) -> None:
    commit(template, NEWER)
    commit(project, {"src/reprise/loop.py": "steps = 2\n"})
    update(project, template)


def test_file_of_the_users_under_a_name_that_the_template_takes_is_not_replaced(template: Path, project: Path) -> None:
    commit(template, {"scripts/download.py": "the engine's\n"})
    with pytest.raises(InputError, match=r"scripts/download\.py: changed here"):
        update(project, template)
    assert (project / "scripts" / "download.py").read_text() == "mine\n"


def test_engine_file_that_was_deleted_here_comes_back(template: Path, project: Path) -> None:
    git(project, "rm", "--quiet", "docs/page.md")
    commit(project, {})
    commit(template, NEWER)
    assert "docs/page.md" in update(project, template).added


def test_shared_file_is_replaced_until_it_is_edited(template: Path, project: Path) -> None:
    commit(template, {"Dockerfile": "FROM newer\n"})
    update(project, template)
    assert (project / "Dockerfile").read_text() == "FROM newer\n"
    commit(project, {"Dockerfile": "FROM mine\n"})
    commit(template, {"Dockerfile": "FROM newest\n", **NEWER})
    assert "keeps your version, though the template's is new: Dockerfile" in update(project, template).text()
    assert (project / "Dockerfile").read_text() == "FROM mine\n"


def test_kept_example_is_the_users(template: Path, project: Path) -> None:
    before = (project / "src" / "tumour_lab" / "data" / "points.py").read_text()
    commit(template, NEWER)
    update(project, template)
    assert (project / "src" / "tumour_lab" / "data" / "points.py").read_text() == before
    assert not (project / "src" / "project").exists()


def test_older_engine_can_be_taken_by_its_commit(template: Path, project: Path) -> None:
    old = git(template, "rev-parse", "HEAD").strip()
    commit(template, NEWER)
    update(project, template)
    commit(project, {})
    update(project, template, old)
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 1\n"
    assert not (project / "src" / "reprise" / "new").exists()


def test_branch_can_be_taken_and_the_remote_called_template_is_the_default(template: Path, project: Path) -> None:
    git(template, "checkout", "--quiet", "-b", "next")
    commit(template, NEWER)
    git(template, "checkout", "--quiet", "main")
    with pytest.raises(InputError, match="--from: expected"):
        update(project, None)
    git(project, "remote", "add", "template", str(template))
    update(project, None, "next")
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 2\n"
    git(project, "remote", "rename", "template", "upstream")
    assert plan_update(project, "upstream", "next").after.version == "0.3.0"


def test_update_killed_at_any_instant_is_completed_by_the_same_command(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, root = (make_project(template, tmp_path / name) for name in ("whole", "killed"))
    commit(template, NEWER)
    update(whole, template)
    instant = 0
    while kill_at(instant := instant + 1, lambda: update(root, template), monkeypatch):
        pass
    assert instant > 10
    assert snapshot(root) == snapshot(whole)


def test_modules_that_run_are_replaced_last(template: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(template, {f"src/reprise/{name}.py": "new\n" for name in "abyz"} | NEWER)
    monkeypatch.setitem(sys.modules, "running", type(sys)("running"))
    sys.modules["running"].__file__ = str(project / "src" / "reprise" / "__init__.py")
    written: list[str] = []
    replace = os.replace

    def noted(source: Any, target: Any) -> None:
        written.append(Path(target).relative_to(project).as_posix())
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    update(project, template)
    assert written[-1] == "src/reprise/__init__.py"


def test_locks_are_renewed_by_the_users_own_script_where_there_is_uv(
    template: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(template, NEWER)
    assert "run scripts/lock" in plan_update(project, str(template), None).carry_out()
    monkeypatch.setattr(updating, "_uv", lambda: "uv")
    assert "run scripts/lock" not in plan_update(project, str(template), None).carry_out()
    assert (project / "requirements.lock").read_text() == "numpy==2.2\n"
    commit(project, {})
    commit(template, {"src/reprise/loop.py": "steps = 3\n"})
    write(project, {"requirements.lock": "mine\n"})
    update(project, template)
    assert (project / "requirements.lock").read_text() == "mine\n"


def test_failing_lock_leaves_all_else_done(template: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = {"scripts/lock": "#!/bin/sh\necho no index >&2; exit 1\n"}
    commit(template, failing)
    update(project, template)
    commit(project, {})
    commit(template, NEWER)
    monkeypatch.setattr(updating, "_uv", lambda: "uv")
    with pytest.raises(Failure, match="no index"):
        update(project, template)
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 2\n"


def test_no_code_of_the_fetched_tree_is_run(template: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = f"touch '{template.parent}/sprung'\n"
    hostile = dict.fromkeys(("scripts/lock", "scripts/check", ".githooks/post-checkout"), f"#!/bin/sh\n{trap}")
    python = f"open({str(template.parent / 'sprung')!r}, 'w')\n__version__ = \"9\"\n"
    commit(template, {**NEWER, **hostile, "src/reprise/__init__.py": python, "setup.py": python})
    monkeypatch.setattr(updating, "_uv", lambda: "uv")
    text = plan_update(project, str(template), None).carry_out()
    assert "run scripts/lock" in text
    assert not (template.parent / "sprung").exists()


def test_links_and_paths_out_of_the_repository_are_refused(template: Path, project: Path, tmp_path: Path) -> None:
    (template / "docs" / "link.md").symlink_to(tmp_path)
    commit(template, NEWER)
    before = snapshot(project)
    with pytest.raises(InputError, match=r"docs/link\.md: expected a regular file"):
        update(project, template)
    git(template, "rm", "--quiet", "docs/link.md")
    commit(template, {})
    # No work tree can hold such a path; git's plumbing makes it.
    blob = git(template, "hash-object", "-w", "README.md").strip()
    listing = f"100644 blob {blob}\t.."
    tree = git_with_input(template, listing, "mktree").strip()
    parent = git(template, "rev-parse", "HEAD:docs").strip()
    entries = git(template, "ls-tree", parent) + f"040000 tree {tree}\tout\n"
    docs = git_with_input(template, entries, "mktree").strip()
    top = "".join(
        f"040000 tree {docs}\tdocs\n" if line.endswith("\tdocs") else f"{line}\n"
        for line in git(template, "ls-tree", "HEAD").splitlines()
    )
    made = git(template, "commit-tree", git_with_input(template, top, "mktree").strip(), "-m", "evil").strip()
    git(template, "branch", "evil", made)
    with pytest.raises(InputError, match=r"expected a regular file inside the repository"):
        update(project, template, "evil")
    assert snapshot(project) == before


def git_with_input(root: Path, text: str, command: str) -> str:
    import subprocess

    return subprocess.run(
        ["git", "-C", str(root), command], input=text, capture_output=True, text=True, check=True
    ).stdout


def test_linked_folder_is_not_written_through(template: Path, project: Path, tmp_path: Path) -> None:
    git(project, "rm", "-r", "--quiet", "docs")
    (tmp_path / "elsewhere").mkdir()
    (project / "docs").symlink_to(tmp_path / "elsewhere")
    commit(project, {})
    commit(template, {"docs/page.md": "# Newer\n"})
    with pytest.raises(InputError, match="docs: expected a directory"):
        update(project, template)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_uncommitted_changes_are_refused(template: Path, project: Path) -> None:
    commit(template, NEWER)
    write(project, {"src/tumour_lab/mine.py": "mine = 2\n"})
    with pytest.raises(InputError, match=r"src/tumour_lab/mine\.py: not committed"):
        update(project, template)


@pytest.mark.parametrize(
    ("source", "ref", "message"),
    [
        ("nowhere", None, "cannot be fetched"),
        ("{template}", "no-such-branch", "no-such-branch cannot be fetched"),
        ("{project}", None, "a project made from the template, not the template"),
        ("{other}", None, "something else, not the template"),
        ("--upload-pack=touch x", None, "expected an address"),
        ("ext::sh -c touch% x", None, "cannot be fetched"),
    ],
)
def test_what_is_no_template_is_refused(
    template: Path, project: Path, tmp_path: Path, source: str, ref: str | None, message: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    commit(other, {"a.txt": ""})
    with pytest.raises(InputError, match=message):
        update(project, source.format(template=template, project=project, other=other), ref)
    assert not (project / "x").exists()


def test_clone_that_was_not_adopted_is_told_what_updates_it(template: Path, tmp_path: Path) -> None:
    root = clone(template, tmp_path / "clone")
    with pytest.raises(InputError, match=r"`git pull` updates a clone"):
        update(root, template)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version":"1","commit":null,"template":null}'])
def test_damaged_record_is_one_message(template: Path, project: Path, text: str) -> None:
    commit(project, {RECORD: text})
    with pytest.raises(InputError, match=r"\.reprise\.json: not as scripts/adopt\.py wrote it"):
        update(project, template)


def test_template_may_be_a_shallow_clone(template: Path, project: Path, tmp_path: Path) -> None:
    commit(template, NEWER)
    git(template, "clone", "--quiet", "--depth=1", template.as_uri(), str(tmp_path / "shallow"))
    commit(tmp_path / "shallow", {"docs/page.md": "# Newer\n"})
    update(project, tmp_path / "shallow")
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 2\n"


def test_template_whose_history_was_rewritten_still_knows_the_engine_that_an_update_took(
    template: Path, project: Path, tmp_path: Path
) -> None:
    commit(template, NEWER)
    update(project, template)
    commit(project, {})
    rewritten = copy_without_history(template, tmp_path / "rewritten")
    commit(rewritten, {"src/reprise/loop.py": "steps = 3\n"})
    git(rewritten, "checkout", "--quiet", "--orphan", "again")
    git(rewritten, "commit", "--quiet", "--message=squashed")
    git(rewritten, "branch", "--quiet", "--delete", "--force", "mine")
    update(project, rewritten)
    assert (project / "src" / "reprise" / "loop.py").read_text() == "steps = 3\n"
