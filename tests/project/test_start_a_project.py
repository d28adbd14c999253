"""docs/start-a-project.md is true: its commands and files, in a fresh clone, make a project that can be updated."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "start-a-project.md").read_text(encoding="utf-8")
ADOPT, COMMIT, TRAIN, DELETE, UPDATE = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
FILE = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
QUICK = ("tests/reprise/test_randomness.py", "tests/reprise/test_metrics.py", "tests/reprise/test_schedules.py")

# What a user types, with the Python of these tests in the place of the one that uv would install.
SHELL = """\
set -euo pipefail
python() { "$PYTHON" "$@"; }
uv() { [ "$1 $2" = "run python" ] && shift 2 && python "$@"; }
"""
IDENTITY = {"user.name": "Ada Lovelace", "user.email": "ada@example.org", "commit.gpgsign": "false"}


def shell(folder: Path, commands: str, template: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "UV"}
    environment |= {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(folder.parent / "tumour-study" / "src"),
        "PATH": os.pathsep.join(
            place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "uv").exists()
        ),
        "GIT_CONFIG_COUNT": str(len(IDENTITY)),
    }
    for number, (name, value) in enumerate(IDENTITY.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    script = SHELL + commands.replace("TEMPLATE", str(template)).replace("adopt.py", "adopt.py --yes")
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def template_in(folder: Path) -> Path:
    path = folder / "template"
    shell(folder, f"git clone --quiet --depth=1 {REPOSITORY.as_uri()} {path}", path)
    return path


def commit_upstream(template: Path) -> None:
    """Make three commits: on an example, on the README, on a file of the engine and a dependency."""
    for name, old, new in (
        ("src/project/data/digits.py", '"""', '"""Better: '),
        ("README.md", "# Reprise", "# Reprise, again"),
        ("src/reprise/__init__.py", "__version__ = ", '__version__ = "99.0"  # was '),
    ):
        change(template / name, old, new)
        if name.endswith("__init__.py"):
            change(template / "pyproject.toml", '"numpy>=2"', '"numpy>=2.0.1"')
        shell(template, f"git commit --quiet --all --message 'Change {name}'", template)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def tracked(root: Path) -> dict[str, bytes]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return {name: (root / name).read_bytes() for name in names.split("\0")[:-1] if (root / name).is_file()}


def assert_only_the_engine_changed(before: dict[str, bytes], root: Path) -> None:
    after = tracked(root)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {".reprise.json", "pyproject.toml", "src/reprise/__init__.py"}
    old, new = (tomllib.loads(files["pyproject.toml"].decode())["project"] for files in (before, after))
    assert new["dependencies"] == [line.replace("numpy>=2", "numpy>=2.0.1") for line in old["dependencies"]]
    assert {**old, "dependencies": None} == {**new, "dependencies": None}


def walk(folder: Path) -> tuple[Path, Path]:
    """Return the template, and a project after the first two parts of the page."""
    template, root = template_in(folder), folder / "tumour-study"
    shell(folder, ADOPT, template)
    status = shell(root, "git status --porcelain --untracked-files=all", template).splitlines()
    assert not [line for line in status if line[3:].startswith(("src/reprise", "tests/reprise", "scripts", "docs"))]
    shell(root, COMMIT, template)
    assert not shell(root, "git status --porcelain", template)
    shell(root, "python -m pytest -q -n0 tests/tumour_study", template)

    your_own = (REPOSITORY / "docs" / "your-own.md").read_text(encoding="utf-8")
    for name, text in [*FILE.findall(re.sub(r"\bmine\b", "tumour_study", your_own)), *FILE.findall(PAGE)]:
        assert not (root / name).exists(), f"{name} is there already"
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    change(root / "pyproject.toml", "dependencies = [\n", 'dependencies = [\n    "my-own-package>=1", # mine\n')
    shell(root, f"{TRAIN.strip()} training.max_epochs=3", template)
    shell(root, f"git add --all && git commit --quiet --message 'Add tumours'\n{DELETE}", template)
    for old, new in (("data: spirals", "data: tumours"), ("model: mlp", "model: perceptron")):
        change(root / "configs" / "train.yaml", old, new)
    shell(root, "git commit --quiet --all --message 'Remove what it started from'", template)
    assert not (root / "src" / "project").exists()
    assert not (root / "configs" / "experiment" / "base.yaml").exists()
    return template, root


def test_walk_ends_with_tests_that_pass_and_an_update_leaves_the_users_work(tmp_path: Path) -> None:
    template, root = walk(tmp_path)
    shell(root, f"python -m pytest -q -n0 tests/tumour_study {' '.join(QUICK)}", template)
    commit_upstream(template)
    before = tracked(root)
    shell(root, UPDATE, template)
    assert_only_the_engine_changed(before, root)
    assert '"my-own-package>=1", # mine' in (root / "pyproject.toml").read_text()
    shell(root, f"git commit --quiet --all --message Update && {TRAIN.strip()} training.max_epochs=1", template)


@pytest.mark.long
def test_all_tests_pass_in_a_project_without_examples(tmp_path: Path) -> None:
    template, root = walk(tmp_path)
    shell(root, "python -m pytest -q -n auto", template)


def test_copy_without_history_that_keeps_an_example_is_updated_all_the_same(tmp_path: Path) -> None:
    template, root = template_in(tmp_path), tmp_path / "tumour-study"
    copy = tmp_path / "copy"
    shell(tmp_path, f"cp -r {template} {copy} && rm -rf {copy}/.git", template)
    shell(copy, "git init --quiet && git add --all && git commit --quiet --message 'Initial commit'", template)
    shell(tmp_path, ADOPT.replace("--license MIT", "--license MIT --keep digits"), copy)
    change(root / "configs" / "experiment" / "base.yaml", "max_epochs: 60", "max_epochs: 6")
    shell(root, COMMIT, template)
    commit_upstream(template)
    before = tracked(root)
    shell(root, UPDATE, template)
    assert_only_the_engine_changed(before, root)
    assert b"Better" not in tracked(root)["src/tumour_study/data/digits.py"]
