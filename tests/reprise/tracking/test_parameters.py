import json
from pathlib import Path
from typing import Any

import pytest

from reprise.config.secrets import HIDDEN
from reprise.runs.run_directory import RunDirectory
from reprise.trackers import base


@pytest.fixture
def parameters(tmp_path: Path) -> Any:
    def of_config(config: dict[str, Any]) -> dict[str, Any]:
        run = RunDirectory(tmp_path)
        run.config.write_text(json.dumps(config))
        return base.parameters(run)

    return of_config


def test_nested_values_have_dotted_names_and_lists_stay_whole(parameters: Any) -> None:
    config = {"seed": 1, "training": {"optimizer": {"betas": [0.9, 0.99]}, "max_steps": None}, "tracker": {}}
    assert parameters(config) == {
        "seed": 1,
        "training.optimizer.betas": [0.9, 0.99],
        "training.max_steps": None,
        "tracker": {},
    }


def test_secrets_are_hidden_and_words_of_a_text_are_not(parameters: Any) -> None:
    config = {"tracker": {"mine": {"token": "x", "api_key": "y"}}, "model": {"tokenizer": "word", "pad_token": "[PAD]"}}
    assert parameters(config) == {
        "tracker.mine.token": HIDDEN,
        "tracker.mine.api_key": HIDDEN,
        "model.tokenizer": "word",
        "model.pad_token": "[PAD]",
    }


def test_addresses_lose_user_and_password(parameters: Any) -> None:
    assert parameters({"data": {"path": "s3://id:pw@bucket/x"}}) == {"data.path": f"s3://{HIDDEN}@bucket/x"}
