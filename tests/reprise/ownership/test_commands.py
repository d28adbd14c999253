"""The two scripts ask, refuse with one message, and end with the exit codes of all commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_template import AUTHOR, clone, commit, snapshot

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """Return a clone with the scripts; the engine that they import is the one under test."""
    for name in ("adopt.py", "update.py"):
        shutil.copy(SCRIPTS / name, template / "scripts" / name)
    commit(template, {})
    return clone(template, tmp_path / "clone")


def run(root: Path, *arguments: str, answer: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script; with an answer, as if a person sat before it."""
    command = [sys.executable, *arguments]
    if answer is None:
        return subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    person, terminal = os.openpty()
    try:
        os.write(person, answer.encode())
        return subprocess.run(command, cwd=root, stdin=terminal, capture_output=True, text=True, check=False)
    finally:
        os.close(person)
        os.close(terminal)


ADOPT = ("scripts/adopt.py", "tumour-lab", "--author", AUTHOR)


@pytest.mark.parametrize("answer", ["n\n", "\n", None])
def test_adopting_shows_what_it_will_do_and_does_nothing_without_a_yes(root: Path, answer: str | None) -> None:
    before = snapshot(root)
    done = run(root, *ADOPT, answer=answer)
    assert done.returncode == 2, done.stderr
    assert "tumour-lab 0.1.0" in done.stdout
    assert "README.md" in done.stdout
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert snapshot(root) == before


def test_adopting_goes_on_after_a_yes_and_an_update_follows(root: Path, tmp_path: Path) -> None:
    done = run(root, *ADOPT, answer="y\n")
    assert done.returncode == 0, done.stderr
    assert (root / "src" / "tumour_lab").is_dir()
    commit(root, {})
    commit(tmp_path / "template", {"src/reprise/loop.py": "steps = 2\n"})
    update = ("scripts/update.py", "--from", str(tmp_path / "template"))
    assert run(root, *update, "--dry-run").returncode == 0
    assert (root / "src" / "reprise" / "loop.py").read_text() == "steps = 1\n"
    commit(root, {"src/reprise/loop.py": "steps = 7\n"})
    refused = run(root, *update)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "src/reprise/loop.py" in refused.stderr
    assert run(root, *update, "--overwrite-edits").returncode == 0
    assert (root / "src" / "reprise" / "loop.py").read_text() == "steps = 2\n"
