"""`src/project/examples.yaml` names the files of the worked examples, and each example stands alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
LISTS = yaml.safe_load((REPOSITORY / "src" / "project" / "examples.yaml").read_text(encoding="utf-8"))
EXPERIMENTS = {"digits": "base", "text_classification": "text_classification", "language_model": "language_model"}
FOLDERS = ("src/project", "tests/project", "configs/data", "configs/model", "configs/experiment")


def test_every_file_of_the_users_half_is_named_and_every_named_file_exists() -> None:
    named = {path for files in LISTS["examples"].values() for path in files} | {*LISTS["template"], *LISTS["stays"]}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *FOLDERS],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    there = {path for path in tracked if (REPOSITORY / path).exists()}
    assert there - named == set(), "src/project/examples.yaml does not say to which example these belong"
    assert {path for path in named if not (REPOSITORY / path).exists()} == set()


@pytest.mark.parametrize(
    "example", [pytest.param(name, marks=[pytest.mark.long] * (name != "digits")) for name in EXPERIMENTS]
)
def test_example_that_is_kept_alone_still_composes_and_imports(example: str, tmp_path: Path) -> None:
    root = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY.as_uri(), str(root)], check=True)
    run(root, "scripts/adopt.py", "lonely", "--keep", example, "--author", "Ada", "--yes")
    modules = [path.relative_to(root / "src").with_suffix("") for path in (root / "src" / "lonely").rglob("*.py")]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    run(root, "-c", "".join(f"import {name}\n" for name in names))
    config = run(root, "scripts/train.py", f"experiment={EXPERIMENTS[example]}", "--cfg", "job")
    assert "_target_: lonely." in config
    assert "project." not in config
    run(root, "-m", "pytest", "-q", "-n0", "--collect-only", "-p", "no:cacheprovider", "tests/lonely")


def run(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
