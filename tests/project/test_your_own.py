"""docs/your-own.md is true: its files, put into a fresh clone, make a run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "your-own.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of what is committed, with the page's files put where it says."""
    path = tmp_path_factory.mktemp("clone") / "project"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY.as_uri(), str(path)], check=True)
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        file = path / name
        if file.exists():  # who follows the page in this repository has it already
            assert file.read_text(encoding="utf-8") == text, f"{name}: the page promises that nothing is edited"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def run_command(clone: Path, command: str, *more: str) -> Path:
    python, *arguments = shlex.split(command)
    assert python == "python"
    return clone / run_python(clone, *arguments, "training.max_epochs=3", *more).splitlines()[-1]


def run_python(clone: Path, *arguments: str) -> str:
    """Return what Python prints in the clone, with the clone's own packages in the environment installed here."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(clone / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMANDS = re.findall(r"```bash\n(.*?)\n```", PAGE, re.DOTALL)


def test_two_python_files_and_two_yaml_files_make_a_complete_run(clone: Path) -> None:
    run = run_command(clone, COMMANDS[0])
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    assert json.loads((run / "results" / "metrics.json").read_text())["metrics"]["test/accuracy"] > 0.9
    assert json.loads((run / "export" / "config.json").read_text())["_target_"] == "mine.perceptron.Perceptron"
    # The card's example is a program that runs as it stands.
    (example,) = re.findall(r"```python\n(.*?)```", (run / "model_card.md").read_text(), re.DOTALL)
    assert run_python(clone, "-c", example).strip()


def test_own_samples_draw_the_same_in_loader_workers_and_without(clone: Path) -> None:
    runs = [run_command(clone, COMMANDS[1], f"data.num_workers={num}") for num in (2, 0)]
    with_workers, without = (json.loads((run / "results" / "metrics.json").read_text()) for run in runs)
    assert with_workers["weights_sha256"] == without["weights_sha256"]
    assert "draws random numbers of its own" not in (runs[0] / "logs" / "train.log").read_text()


def test_own_metric_can_choose_the_checkpoint_and_own_callback_can_log(clone: Path) -> None:
    run = run_command(clone, COMMANDS[2])
    lines = [json.loads(line)["metrics"] for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "val/loss" in line]
    assert len(evaluations) == 3
    assert all("val/confidence" in line and "train/weight_norm" in line for line in evaluations)
    best = max(line["val/confidence"] for line in evaluations)
    assert json.loads((run / "results" / "metrics.json").read_text())["monitor"]["value"] == best
