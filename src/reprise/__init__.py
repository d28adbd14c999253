"""Reprise: PyTorch experiments that can be repeated, resumed and trusted.

What other code may import stands in `__all__`; each name is loaded when it is first used, since importing torch takes
a while and a `--help` should not wait for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprise.checkpoint import load_checkpoint, save_checkpoint
    from reprise.config import ExperimentConfig
    from reprise.export import from_pretrained
    from reprise.metrics_log import MetricEntry, MetricsLogger
    from reprise.model_card import generate_model_card
    from reprise.randomness import set_seed
    from reprise.run_directory import create_experiment_dir
    from reprise.saved_run import load_run

_HOMES = {
    "ExperimentConfig": "config",
    "MetricEntry": "metrics_log",
    "MetricsLogger": "metrics_log",
    "create_experiment_dir": "run_directory",
    "from_pretrained": "export",
    "generate_model_card": "model_card",
    "load_checkpoint": "checkpoint",
    "load_run": "saved_run",
    "save_checkpoint": "checkpoint",
    "set_seed": "randomness",
}

__all__ = [
    "ExperimentConfig",
    "MetricEntry",
    "MetricsLogger",
    "create_experiment_dir",
    "from_pretrained",
    "generate_model_card",
    "load_checkpoint",
    "load_run",
    "save_checkpoint",
    "set_seed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
