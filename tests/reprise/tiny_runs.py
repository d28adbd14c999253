"""Configs as people compose them, for runs of seconds."""

from pathlib import Path

from reprise.cli.composing import compose_and_validate
from reprise.config.composed import Composed

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"

# A run of a second: two epochs of the real data with a smaller model, dropout and augmentation on.
TINY = (
    "experiment=base",
    "tracker=none",
    "data.train_split=0.1",
    "data.val_split=0.05",
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.intermediate_size=16",
    "model.dropout=0.1",
    "training.max_epochs=2",
    "training.warmup_steps=2",
    "training.batch_size=32",
)


def compose(*overrides: str) -> Composed:
    """Return the config that these overrides make."""
    return compose_and_validate(CONFIGS, overrides)
