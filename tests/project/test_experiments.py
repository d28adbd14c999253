"""Every experiment runs from config to card, and says the truth about itself."""

import functools
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprise import load_run
from reprise.config import ExperimentConfig

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"

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


def train(*arguments: str) -> Path:
    """Call `scripts/train.py`; return the run directory."""
    return Path(call(*arguments).splitlines()[-1])


def call(*arguments: str) -> str:
    script = str(REPOSITORY / "scripts" / "train.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def composed(*overrides: str) -> Any:
    """Return the config that these overrides make, as nested plain values."""
    return yaml.safe_load(call(*overrides, "--cfg", "job"))


@pytest.fixture(scope="module", params=EXPERIMENTS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp(request.param)
    return train(f"experiment={request.param}", *EXPERIMENTS[request.param], f"output_dir={output_dir}")


def test_experiment_ends_complete_with_scores_and_baselines(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    results = json.loads((run / "results" / "metrics.json").read_text())
    assert results["split"] == "test"
    assert all(math.isfinite(value) for value in results["metrics"].values())
    assert results["baselines"]
    assert json.loads((run / "results" / "predictions.json").read_text())


def test_language_model_writes_samples_into_the_card(run: Path) -> None:
    results = json.loads((run / "results" / "metrics.json").read_text())
    if "test/perplexity" in results["metrics"]:
        card = (run / "model_card.md").read_text()
        assert results["samples"]
        assert all(line in card for line in results["samples"][0].splitlines())


def test_example_of_the_card_runs_as_printed(run: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (run / "model_card.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr


def test_command_of_the_card_composes_to_the_same_config(run: Path) -> None:
    (commands,) = re.findall(r"```bash\n(.*?)```", (run / "model_card.md").read_text(), re.DOTALL)
    python, script, *overrides = shlex.split(commands.splitlines()[-1])
    assert (python, script) == ("python", "scripts/train.py")
    saved = load_run(run).config
    again = ExperimentConfig.from_dict(yaml.safe_load(call(*overrides, "--cfg", "job", "--resolve")))
    left_open = {"run_id"} | ({"num_threads"} if again.num_threads is None else set())
    assert {difference.key for difference in again.differences(saved)} <= left_open | {"training.num_microbatches"}


def test_bert_has_the_figures_of_its_paper_sized_baseline() -> None:
    config = composed("experiment=text_classification")
    assert (config["model"]["name"], config["model"]["num_layers"]) == ("bert-base-uncased", 12)
    assert (config["model"]["hidden_size"], config["model"]["dropout"]) == (768, 0.1)
    training = config["training"]
    assert training["batch_size"] == 32
    assert (float(training["learning_rate"]), training["warmup_steps"], training["max_epochs"]) == (1e-4, 1000, 10)


def test_tiny_bert_brings_the_training_it_needs_and_the_command_line_has_the_last_word() -> None:
    overrides = ("experiment=text_classification", "model=bert_tiny")
    assert float(composed(*overrides)["training"]["learning_rate"]) == 3e-3
    assert composed(*overrides, "training.learning_rate=0.5")["training"]["learning_rate"] == 0.5


@pytest.mark.parametrize("path", sorted((CONFIGS / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_file_splits_as_the_schema_does(path: Path) -> None:
    values, schema = yaml.safe_load(path.read_text()), ExperimentConfig().data
    assert (values["train_split"], values["val_split"]) == (schema.train_split, schema.val_split)


def test_the_values_of_the_page_to_read_first_are_the_defaults_of_the_schema() -> None:
    values = yaml.safe_load((CONFIGS / "train.yaml").read_text())
    schema = ExperimentConfig().to_dict() | {"experiment_name": "${hydra:runtime.choices.experiment}"}
    for key in schema.keys() - {"data", "model", "training", "metrics", "callbacks", "tracker"}:
        assert values[key] == schema[key], key


@pytest.mark.long
def test_sweep_leaves_one_complete_run_for_each_job(tmp_path: Path) -> None:
    said = call("-m", "experiment=base", "seed=1,2", "training.max_epochs=1", f"output_dir={tmp_path}")
    runs = [path.parent for path in (tmp_path / "experiments" / "base").glob("*/config.json")]
    assert sorted(json.loads((run / "config.json").read_text())["seed"] for run in runs) == [1, 2]
    assert all(json.loads((run / "status.json").read_text())["status"] == "completed" for run in runs)
    (sweep,) = (tmp_path / "experiments" / "base" / "sweeps").iterdir()
    assert said.splitlines()[-1] == str(sweep)
    assert (sweep / "summary.md").exists()


@pytest.mark.long
def test_base_reaches_98_percent_on_average_over_ten_seeds(tmp_path: Path) -> None:
    accuracies = []
    for seed in range(10):
        run = train("experiment=base", f"seed={seed}", f"output_dir={tmp_path}", "tracker=none")
        accuracies.append(json.loads((run / "results" / "metrics.json").read_text())["metrics"]["test/accuracy"])
    assert sum(accuracies) / 10 >= 0.98, accuracies


@pytest.mark.long
def test_compiled_run_repeats_to_the_bit_and_its_checkpoints_load_anywhere(tmp_path: Path) -> None:
    hashes = set()
    for _ in range(2):
        run = train("experiment=base", "debug=short", "training.compile=true", f"output_dir={tmp_path}")
        hashes.add(json.loads((run / "results" / "metrics.json").read_text())["weights_sha256"])
        assert not any("_orig_mod" in name for name in load_run(run).model().state_dict())
    assert len(hashes) == 1
