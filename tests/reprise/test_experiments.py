"""Every experiment runs from config to card, and says the truth about itself."""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import CONFIGS, REPOSITORY, compose

from reprise.config import ExperimentConfig
from reprise.runs.train import train

# Each with what makes it a matter of seconds without network.
EXPERIMENTS = {
    "base": ("debug=short", "data.train_split=0.3"),
    "text_classification": (
        "debug=short",
        "model=bert_tiny",
        "model.hidden_size=16",
        "data.train_split=0.5",
        "data.val_split=0.48",
    ),
    "language_model": ("debug=short", "model.hidden_size=16", "data.train_split=0.96", "data.val_split=0.02"),
}


@pytest.fixture(scope="module", params=EXPERIMENTS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp(request.param)
    composed = compose(f"experiment={request.param}", *EXPERIMENTS[request.param], f"output_dir={output_dir}")
    return train(composed)


def test_every_experiment_is_tried_here() -> None:
    assert {path.stem for path in (CONFIGS / "experiment").glob("*.yaml")} == EXPERIMENTS.keys()


def test_experiment_ends_complete_with_scores_and_baselines(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    results = json.loads((run / "results" / "metrics.json").read_text())
    assert results["split"] == "test"
    assert all(math.isfinite(value) for value in results["metrics"].values())
    assert results["baselines"]
    assert json.loads((run / "results" / "predictions.json").read_text())


def test_example_of_the_card_runs_as_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (run / "model_card.md").read_text(), re.DOTALL)
    exec(compile(example, "model_card.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_command_of_the_card_composes_to_the_same_config(run: Path) -> None:
    (commands,) = re.findall(r"```bash\n(.*?)```", (run / "model_card.md").read_text(), re.DOTALL)
    python, script, *overrides = shlex.split(commands.splitlines()[-1])
    assert (python, script) == ("python", "scripts/train.py")
    saved = ExperimentConfig.load(run / "config.json")
    composed = compose(*overrides).config.with_open_as_in(saved)
    assert composed.to_dict() | {"run_id": saved.run_id} == saved.to_dict()


def test_language_model_writes_samples_into_the_card(tmp_path: Path) -> None:
    run = train(
        compose("experiment=language_model", *EXPERIMENTS["language_model"], f"output_dir={tmp_path}", "tracker=none")
    )
    samples = json.loads((run / "results" / "metrics.json").read_text())["samples"]
    assert samples
    card = (run / "model_card.md").read_text()
    assert all(line in card for line in samples[0].splitlines())


def test_bert_has_the_figures_of_its_paper_sized_baseline() -> None:
    config = compose("experiment=text_classification").config
    assert (config.model.name, config.model.num_layers, config.model.hidden_size) == ("bert-base-uncased", 12, 768)
    assert config.model.dropout == 0.1
    assert config.training.batch_size == 32
    assert (config.training.learning_rate, config.training.warmup_steps, config.training.max_epochs) == (1e-4, 1000, 10)


def test_tiny_bert_brings_the_training_it_needs_and_the_command_line_has_the_last_word() -> None:
    overrides = ("experiment=text_classification", "model=bert_tiny")
    assert compose(*overrides).config.training.learning_rate == 3e-3
    assert compose(*overrides, "training.learning_rate=0.5").config.training.learning_rate == 0.5


def test_sweep_leaves_one_complete_run_for_each_job(tmp_path: Path) -> None:
    command = "scripts/train.py -m experiment=base seed=1,2 training.max_epochs=1"
    done = subprocess.run(
        [sys.executable, *command.split(), f"output_dir={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [path.parent for path in (tmp_path / "experiments" / "base").glob("*/config.json")]
    assert sorted(json.loads((run / "config.json").read_text())["seed"] for run in runs) == [1, 2]
    assert all(json.loads((run / "status.json").read_text())["status"] == "completed" for run in runs)
    (sweep,) = (tmp_path / "experiments" / "base" / "sweeps").iterdir()
    assert done.stdout.splitlines()[-1] == str(sweep)
    assert (sweep / "summary.md").exists()


@pytest.mark.long
def test_base_reaches_98_percent_on_average_over_ten_seeds(tmp_path: Path) -> None:
    accuracies = []
    for seed in range(10):
        run = train(compose("experiment=base", f"seed={seed}", f"output_dir={tmp_path}", "tracker=none"))
        accuracies.append(json.loads((run / "results" / "metrics.json").read_text())["metrics"]["test/accuracy"])
    assert sum(accuracies) / 10 >= 0.98, accuracies


@pytest.mark.long
def test_compiled_run_repeats_to_the_bit_and_its_checkpoints_load_anywhere(tmp_path: Path) -> None:
    from reprise import load_run

    overrides = ("experiment=base", "debug=short", "training.compile=true", f"output_dir={tmp_path}")
    hashes = set()
    for _ in range(2):
        run = train(compose(*overrides))
        hashes.add(json.loads((run / "results" / "metrics.json").read_text())["weights_sha256"])
        assert not any("_orig_mod" in name for name in load_run(run).model().state_dict())
    assert len(hashes) == 1
