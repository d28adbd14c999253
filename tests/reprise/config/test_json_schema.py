"""The schemas for editors are in step with the code, take every file that is there, and find what is wrong in one."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tiny_runs import CONFIGS, REPOSITORY

from reprise.config.json_schema import schemas

jsonschema = pytest.importorskip("jsonschema")

FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if CONFIGS / "hydra" not in path.parents)


def schema_of(file: Path) -> dict[str, Any]:
    """Return the schema that VS Code uses for a file."""
    settings = json.loads((REPOSITORY / ".vscode" / "settings.json").read_text())
    (schema,) = [s for s, patterns in settings["yaml.schemas"].items() if any(file.match(p) for p in patterns)]
    found = json.loads((REPOSITORY / schema).read_text())
    assert isinstance(found, dict)
    return found


def is_valid(values: Any, name: str) -> bool:
    schema = json.loads((REPOSITORY / ".vscode" / "schemas" / f"{name}.json").read_text())
    return bool(jsonschema.Draft7Validator(schema).is_valid(values))


def test_the_files_are_what_the_code_says_now() -> None:
    written = {path.name: json.loads(path.read_text()) for path in (REPOSITORY / ".vscode" / "schemas").iterdir()}
    assert written == json.loads(json.dumps(schemas(CONFIGS))), "run scripts/schema.py"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_every_config_file_is_valid_for_the_editor(file: Path) -> None:
    schema = schema_of(file)
    jsonschema.Draft7Validator.check_schema(schema)
    # Read as YAML 1.2 does, where 1e-4 is a number.
    jsonschema.Draft7Validator(schema).validate(OmegaConf.to_container(OmegaConf.load(file), resolve=False))


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
            "model",
            {"_target_": "project.models.vit.build_vit", "num_heads": 4},
            {"_target_": "project.models.vit.build_vit", "num_heads": "four"},
        ),
    ],
)
def test_what_a_run_would_refuse_is_underlined(name: str, right: Any, wrong: Any) -> None:
    assert is_valid(right, name)
    assert not is_valid(wrong, name)


def test_the_text_under_a_field_is_shown_with_it() -> None:
    schema = json.loads((REPOSITORY / ".vscode" / "schemas" / "training.json").read_text())
    assert schema["properties"]["warmup_steps"]["description"].startswith("Optimizer steps over which")
