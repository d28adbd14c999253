"""The schemas for editors are in step with the code, take every file that is there, and find what is wrong in one."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tiny_runs import CONFIG_FILES, CONFIGS, ENGINE_CONFIGS, REPOSITORY

from reprise.config.json_schema import own_schema, schemas, targets_in

jsonschema = pytest.importorskip("jsonschema")

FILES = [name for name in CONFIG_FILES if not name.startswith("hydra/")]
ENGINE = targets_in(ENGINE_CONFIGS)
OWN = "tiny.perceptron.Perceptron"


def schemas_of(file: Path) -> list[dict[str, Any]]:
    """Return the schemas that VS Code uses for a file, that of a user's own parts as it would be written here."""
    settings = json.loads((REPOSITORY / ".vscode" / "settings.json").read_text())
    own, *found = sorted(
        (s for s, patterns in settings["yaml.schemas"].items() if any(matches(file, p) for p in patterns)),
        key=lambda schema: "own" not in schema,
    )
    assert own.endswith("/own_targets.json")
    assert len(found) == 1
    return [own_schema([OWN]), json.loads((REPOSITORY / found[0]).read_text())]


def matches(file: Path, pattern: str) -> bool:
    return pattern == "configs/**/*.yaml" or file.match(pattern)


def is_valid(values: Any, name: str) -> bool:
    schema = json.loads((REPOSITORY / ".vscode" / "schemas" / f"{name}.json").read_text())
    return bool(jsonschema.Draft7Validator(schema).is_valid(values))


def test_the_files_are_what_the_code_says_now() -> None:
    written = {path.name: json.loads(path.read_text()) for path in (REPOSITORY / ".vscode" / "schemas").iterdir()}
    assert written == json.loads(json.dumps(schemas(ENGINE))), "run scripts/schema.py --engine"


def test_a_target_of_ones_own_is_completed_wherever_it_stands_and_changes_no_schema_of_the_engine() -> None:
    assert OWN in targets_in(CONFIGS)
    own = jsonschema.Draft7Validator(own_schema([OWN]))
    assert own.is_valid({"model": {"_target_": OWN, "num_groups": "${x}"}})
    assert own.is_valid({"_target_": OWN, "num_groups": 4, "seed": None})
    assert not own.is_valid({"_target_": OWN, "num_groups": "four"})
    assert not own.is_valid({"model": {"_target_": OWN, "num_groups": "four"}})
    assert own.is_valid({"_target_": "another.one", "num_groups": "four"})
    assert not any(OWN in json.dumps(schema) for schema in schemas(ENGINE).values())


@pytest.mark.parametrize("name", FILES)
def test_every_config_file_is_valid_for_the_editor(name: str) -> None:
    # Read as YAML 1.2 does, where 1e-4 is a number.
    values = OmegaConf.to_container(OmegaConf.load(CONFIG_FILES[name]), resolve=False)
    for schema in schemas_of(CONFIG_FILES[name]):
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.Draft7Validator(schema).validate(values)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("train", {"training": {"learning_rate": 0.1}}, {"training": {"learnin_rate": 0.1}}),
        ("train", {"seed": "${oc.env:SEED}"}, {"seed": "five"}),
        ("train", {"callbacks": {"progress": None}}, {"callbacks": {"progress": 5}}),
        ("training", {"precision": "bf16", "max_steps": None}, {"precision": "int8"}),
        ("training", {"monitor": "???"}, {"batch_size": 0}),
        ("data", {"_target_": "my.own", "anything": 1}, {"train_split": 1.5}),
        (
            "component",
            {"_target_": "reprise.callbacks.early_stopping.EarlyStopping", "patience": 4},
            {"_target_": "reprise.callbacks.early_stopping.EarlyStopping", "patience": "four"},
        ),
    ],
)
def test_what_a_run_would_refuse_is_underlined(name: str, right: Any, wrong: Any) -> None:
    assert is_valid(right, name)
    assert not is_valid(wrong, name)


def test_the_text_under_a_field_is_shown_with_it() -> None:
    schema = json.loads((REPOSITORY / ".vscode" / "schemas" / "training.json").read_text())
    assert schema["properties"]["warmup_steps"]["description"].startswith("Optimizer steps over which")
