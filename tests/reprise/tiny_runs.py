"""Configs as people compose them, for runs of seconds.

This directory is a project of its own: what `configs/`, `scripts/` and `src/project` are to a user, the `configs/`,
`scripts/` and `src/tiny` beside this file are to the tests.
"""

import os
import sys
from pathlib import Path

import reprise.config.targets
from reprise.cli.composing import compose_and_validate
from reprise.config.composed import Composed

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parents[1]
CONFIGS = TESTS / "configs"
ENGINE_CONFIGS = REPOSITORY / "src" / "reprise" / "configs"
TRAIN, EXPLAIN = TESTS / "scripts" / "train.py", TESTS / "scripts" / "explain.py"
"""The scripts with the configs and the code of the tests, for what needs a process of its own."""

# Trusted as a user's packages under src/ are.
reprise.config.targets._TRUSTED = (*reprise.config.targets._TRUSTED, "tiny")
sys.path.insert(0, str(TESTS / "src"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])

# A run of a second: two epochs with a small model, dropout and augmentation on.
TINY = (
    "experiment=base",
    "tracker=none",
    "data.train_split=0.45",
    "data.val_split=0.225",
    "model.hidden_size=16",
    "model.num_groups=2",
    "model.num_layers=1",
    "model.intermediate_size=16",
    "model.dropout=0.1",
    "training.max_epochs=2",
    "training.warmup_steps=2",
    "training.batch_size=32",
)


CONFIG_FILES = {
    path.relative_to(directory).as_posix(): path
    for directory in (ENGINE_CONFIGS, CONFIGS)
    for path in sorted(directory.rglob("*.yaml"))
}
"""Every config file that Hydra finds here, by its name in the search path."""


def compose(*overrides: str) -> Composed:
    """Return the config that these overrides make."""
    return compose_and_validate(CONFIGS, overrides)
