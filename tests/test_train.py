"""The promises: same config, same bits; kill it anywhere; nothing lies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TINY, compose

from reprise.callbacks import Callback, Run
from reprise.checkpoint import content_hash, read_checkpoint
from reprise.command_line import Interrupted
from reprise.config import ConfigError, ExperimentConfig, InputError
from reprise.run_directory import RunDirectory, open_run
from reprise.train import train

TrainTiny = Callable[..., Path]
EVERYTHING = (
    "training.gradient_accumulation=2",
    "training.checkpoint_every_steps=2",
    "training.eval_every_steps=2",
    "training.log_every_steps=1",
    "callbacks=[default,early_stopping]",
)


def facts(path: Path) -> dict[str, Any]:
    """Return all that must be equal between two runs that are the same: states by hash, files as they are."""
    run = RunDirectory(path)
    result: dict[str, Any] = {
        "metrics.jsonl": [
            {key: value for key, value in json.loads(line).items() if key != "timestamp"}
            for line in run.metrics_log.read_text().splitlines()
        ],
        "predictions": run.predictions.read_text(),
        "results": run.metrics.read_text(),
        "export": content_hash((run.export / "model.safetensors").read_bytes()),
    }
    for name in ("best", "last"):
        for key, value in read_checkpoint(run.checkpoint(name)).items():
            if key not in ("config", "sha256"):
                result[f"{name}.{key}"] = content_hash(value)
    return result


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it, nothing is cleaned up after it."""
