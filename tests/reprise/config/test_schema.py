from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import CONFIG_FILES, CONFIGS, TINY, compose

from reprise.config import ExperimentConfig, ModelConfig, TrainingConfig
from reprise.config.names import name_problem
from reprise.config.schema import text_keys
from reprise.errors import ConfigError, InputError
from reprise.files.differences import Difference


def problems(**values: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.from_dict(values)
    return {problem.key: problem.message for problem in caught.value.problems}


def test_the_defaults_are_those_of_the_contract() -> None:
    config = ExperimentConfig()
    assert config.seed == 42
    assert (config.data.train_split, config.data.val_split) == (0.8, 0.1)
    assert (config.training.gradient_clip, config.training.weight_decay) == (1.0, 0.01)


def test_the_defaults_of_the_yaml_files_and_of_the_schema_are_the_same() -> None:
    def of_file(name: str) -> dict[str, Any]:
        values = yaml.safe_load((CONFIGS / name).read_text())
        del values["defaults"]
        return {key: float(value) if key == "learning_rate" else value for key, value in values.items()}

    schema = ExperimentConfig().to_dict()
    sections = {key for key, value in schema.items() if isinstance(value, dict)} - {"card", "export"}
    in_train = {key: value for key, value in schema.items() if key not in sections}
    assert of_file("train.yaml") == in_train | {"experiment_name": "${hydra:runtime.choices.experiment}"}
    in_training = {key: value for key, value in schema["training"].items() if not isinstance(value, dict)}
    assert of_file("training/default.yaml") == in_training
    for name in ("optimizer", "scheduler"):
        (choice,) = [
            item[name]
            for item in yaml.safe_load((CONFIGS / "training/default.yaml").read_text())["defaults"]
            if name in item
        ]
        target = yaml.safe_load(CONFIG_FILES[f"training/{name}/{choice}.yaml"].read_text())["_target_"]
        assert target == schema["training"][name]["_target_"]


def test_a_config_that_was_saved_loads_as_it_was(tmp_path: Path) -> None:
    config = replace(compose(*TINY, "run_id=one", "card.authors=Ännchen", "callbacks.progress=null").config, seed=7)
    config.save(tmp_path / "config.json")
    assert ExperimentConfig.load(tmp_path / "config.json") == config
    assert ExperimentConfig.from_dict(config.to_dict()) == config


def test_the_config_of_a_run_is_the_one_that_ran(finished_run: Path) -> None:
    saved = ExperimentConfig.load(finished_run / "config.json")
    asked = compose(*TINY, f"output_dir={finished_run.parents[2]}", "run_id=finished").config
    # Left open, it is resolved at the first start.
    assert saved == replace(asked, training=replace(asked.training, num_microbatches=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("{", "not a JSON file"),
        ("[1]", "expected a JSON object, got list"),
        ("[" * 100_000, "not a JSON file"),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        ExperimentConfig.load(path)


def test_all_problems_are_found_at_once() -> None:
    assert problems(seed=-1, modle={}, training={"batch_size": 0, "learningrate": 1}, data={"num_workers": None}) == {
        "seed": "expected an integer ≥ 0 and ≤ 4294967295, got -1",
        "data.num_workers": "expected an integer ≥ 0, got null",
        "training.batch_size": "expected an integer ≥ 1, got 0",
        "training.learningrate": "unknown; did you mean `training.learning_rate`?",
        "modle": "unknown; did you mean `model`?",
    }


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("", "seed", [-1, 2**32, 1.5, "1", True, None]),
        ("", "deterministic", ["yes", 1, None]),
        ("", "num_threads", [0, 1.0]),
        ("data", "train_split", [0, 1.1, -0.1]),
        ("data", "val_split", [-0.1, 1.1]),
        ("data", "num_workers", [-1]),
        ("model", "hidden_size", [0]),
        ("model", "num_layers", [0, 1.5]),
        ("model", "dropout", [-0.1, 1.0]),
        ("training", "batch_size", [0, None]),
        ("training", "learning_rate", [0, -1, "fast", float("inf")]),
        ("training", "max_epochs", [0]),
        ("training", "max_steps", [0]),
        ("training", "warmup_steps", [-1]),
        ("training", "weight_decay", [-0.01]),
        ("training", "gradient_clip", [0]),
        ("training", "gradient_accumulation", [0]),
        ("training", "precision", ["fp8", 32]),
        ("training", "compile", ["no", 0]),
        ("training", "device", ["gpu", "cuda:x", "tpu"]),
        ("training", "checkpoint_every_epochs", [0]),
        ("training", "checkpoint_every_steps", [0]),
        ("training", "eval_every_steps", [0]),
        ("training", "monitor_mode", ["maximum", None]),
    ],
)
def test_every_key_of_the_contract_refuses_what_it_cannot_mean(section: str, key: str, values: list[Any]) -> None:
    for value in values:
        given = {section: {key: value}} if section else {key: value}
        assert list(problems(**given)) == [f"{section}.{key}".strip(".")]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", ".hidden", "-dash", "ends.", "a b", "a\nb", "x" * 129, "é"])
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    assert name_problem(name) is not None
    assert list(problems(experiment_name=name, run_id=name)) == ["experiment_name", "run_id"]


@pytest.mark.parametrize("name", ["a", "20261123_060412", "lr=0.1,seed=1", "v1.2-rc+3", "x" * 128])
def test_names_that_people_give_are_taken(name: str) -> None:
    assert ExperimentConfig.from_dict({"experiment_name": name, "run_id": name}).run_id == name


def test_an_empty_output_directory_is_refused() -> None:
    assert problems(output_dir="") == {"output_dir": "expected a directory, got ''; the current one is `.`"}


def test_splits_of_more_than_everything_are_refused() -> None:
    assert problems(data={"train_split": 0.9, "val_split": 0.2}) == {
        "data.val_split": "expected at most 0.1 beside data.train_split, got 0.2"
    }
    ExperimentConfig.from_dict({"data": {"train_split": 0.7, "val_split": 0.3}})


def test_differences_are_those_of_single_values_without_the_run_id() -> None:
    one = ExperimentConfig(run_id="one", model=ModelConfig(arguments={"num_groups": 4}))
    two = replace(one, run_id="two", seed=1, training=TrainingConfig(max_steps=3), model=ModelConfig())
    assert one.differences(two) == [
        Difference("model.num_groups", 4, None),
        Difference("seed", 42, 1),
        Difference("training.max_steps", None, 3),
    ]
    assert one.differences(replace(one, run_id=None)) == []


def test_keys_that_hold_nothing_but_a_text_are_known() -> None:
    assert text_keys() == {
        *(
            "experiment_name",
            "run_id",
            "sweep_id",
            "output_dir",
            "data._target_",
            "data.path",
            "model._target_",
            "model.name",
        ),
        *("model.tokenizer", "training.device", "training.monitor"),
        *(f"card.{key}" for key in ExperimentConfig().to_dict()["card"]),
    }
