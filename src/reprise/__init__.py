"""Reprise: PyTorch experiments that can be repeated, resumed and trusted.

What other code may import stands in `__all__`; each name is loaded when it is first used, since importing torch takes
a while and a `--help` should not wait for it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":  # which has neither the locks nor the signals that runs rely on
    print(
        "Error: Windows is not supported; in WSL, the Windows Subsystem for Linux, this runs as on Linux: "
        "https://learn.microsoft.com/windows/wsl/install",
        file=sys.stderr,
    )
    sys.exit(2)

if TYPE_CHECKING:
    from reprise.config import ExperimentConfig
    from reprise.randomness import set_seed
    from reprise.runs.checkpoint import load_checkpoint, save_checkpoint
    from reprise.runs.export import from_pretrained
    from reprise.runs.metrics_log import MetricEntry, MetricsLogger
    from reprise.runs.run_directory import create_experiment_dir
    from reprise.runs.saved_run import load_run
    from reprise.tools.model_card import generate_model_card

__version__ = "0.2.0"
"""The engine's version; `pyproject.toml` has the version of the project that lives here."""

_HOMES = {
    "ExperimentConfig": "config",
    "MetricEntry": "runs.metrics_log",
    "MetricsLogger": "runs.metrics_log",
    "create_experiment_dir": "runs.run_directory",
    "from_pretrained": "runs.export",
    "generate_model_card": "tools.model_card",
    "load_checkpoint": "runs.checkpoint",
    "load_run": "runs.saved_run",
    "save_checkpoint": "runs.checkpoint",
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
