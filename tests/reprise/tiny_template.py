"""A template of a dozen files with two worked examples, and projects made from it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

AUTHOR = "Ada Lovelace <ada@example.org>"

FILES = {
    "README.md": "# Template\n",
    "LICENSE": "Copyright (c) 2020 The authors of the template\n",
    "CHANGELOG.md": "# Changelog of the template\n",
    "CITATION.cff": "title: Template\n",
    "Dockerfile": "FROM scratch\n",
    "pyproject.toml": """\
# The packages of the template.
[build-system]
requires = ["setuptools>=77"]

[project]
name = "reprise"
version = "0.2.0"
license = "MIT"
requires-python = ">=3.11"
dependencies = [
    "numpy>=2", # arrays
    "torch>=2.11",
]

[project.optional-dependencies]
ray = ["ray>=2.40"]

[dependency-groups]
dev = [
    "pytest>=8",
    "reprise[ray]",
]

[tool.ruff]
line-length = 120 # characters
""",
    "requirements.lock": "numpy==2.0\n",
    "configs/train.yaml": """\
defaults:
  - data: points
  - model: line
  - experiment: null # what people run: base, words
""",
    "configs/data/points.yaml": "_target_: project.data.points.load\n",
    "configs/data/words.yaml": "_target_: project.data.words.load\n",
    "configs/experiment/base.yaml": "defaults: [override /data: points]\n",
    "configs/experiment/words.yaml": "defaults: [override /data: words]\n",
    "src/project/__init__.py": "",
    "src/project/data/__init__.py": "",
    "src/project/data/points.py": "from project.data import both\n\n\ndef load(): ...  # project.md is no module\n",
    "src/project/data/words.py": "import project.data.both\n",
    "src/project/data/both.py": "",
    "src/project/examples.yaml": """\
examples:
  points: [configs/data/points.yaml, configs/experiment/base.yaml, src/project/data/points.py, src/project/data/both.py]
  words: [configs/data/words.yaml, configs/experiment/words.yaml, src/project/data/words.py, src/project/data/both.py]
template: [src/project/examples.yaml, tests/project/test_template.py]
""",
    "tests/project/test_template.py": "",
    ".vscode/own_targets.json": """\
{"definitions": {"section": {"allOf": [
 {"if": {"properties": {"_target_": {"const": "project.data.points.load"}}}},
 {"if": {"properties": {"_target_": {"const": "project.data.words.load"}}}}
]}}}
""",
    "tests/reprise/test_engine.py": "",
    "src/reprise/__init__.py": '"""The engine."""\n\n__version__ = "0.2.0"\n',
    "src/reprise/loop.py": "steps = 1\n",
    "docs/page.md": "# A page\n",
    "scripts/lock": "#!/bin/sh\necho 'numpy==2.2' >requirements.lock\n",
}


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commit(root: Path, files: dict[str, str], message: str = "change") -> str:
    """Write files and commit everything; return the commit."""
    write(root, files)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", f"--message={message}")
    return git(root, "rev-parse", "HEAD").strip()


def make_template(root: Path) -> Path:
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    write(root, FILES)
    (root / "scripts" / "lock").chmod(0o755)
    commit(root, {}, "template")
    return root


def clone(template: Path, root: Path) -> Path:
    git(template, "clone", "--quiet", str(template), str(root))
    return root


def copy_without_history(template: Path, root: Path) -> Path:
    """Return what "Use this template" makes: the same files in a repository of their own."""
    clone(template, root)
    git(root, "checkout", "--quiet", "--orphan", "mine")
    git(root, "commit", "--quiet", "--message=Initial commit")
    git(root, "branch", "--quiet", "--delete", "--force", "main")
    git(root, "remote", "remove", "origin")
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    """Return the content of every file outside .git."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files if ".git" not in p.relative_to(root).parts}


class Killed(BaseException):
    """The process is gone: nothing is cleaned up."""


def kill_at(instant: int, command: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the command and kill it before its nth operation on a file; return False if it has fewer."""
    operations = 0

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "mkdir", "chmod", "fsync"):
            original = getattr(os, name)

            def killed(*arguments: object, original: Callable[..., object] = original, **options: object) -> object:
                nonlocal operations
                operations += 1
                if operations >= instant:  # and what would clean up afterwards does not run either
                    raise Killed
                return original(*arguments, **options)

            patch.setattr(os, name, killed)
        try:
            command()
        except Killed:
            return True
    return False
