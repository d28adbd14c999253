"""Where the `_target_`s of runs recorded by version 0.1 stand today, so that those runs load, resume and reproduce."""

from collections.abc import Mapping
from typing import Any

_MOVED = {
    "reprise.callbacks.checkpoints": "reprise.runs.persisters.checkpoints",
    "reprise.callbacks.metrics_log": "reprise.runs.persisters.metrics_writer",
    "reprise.callbacks.mlflow": "reprise.trackers.mlflow",
    "reprise.callbacks.model_card": "reprise.tools.model_card.callback",
    "reprise.callbacks.plots": "reprise.tools.plots.callback",
    "reprise.callbacks.pruning": "reprise.tools.sweep.pruning",
    "reprise.callbacks.run_layout": "reprise.runs.persisters.run_layout",
    "reprise.callbacks.tensorboard": "reprise.trackers.tensorboard",
    "reprise.callbacks.wandb": "reprise.trackers.wandb",
    "reprise.data.digits": "project.data.digits",
    "reprise.data.language_model": "project.data.language_model",
    "reprise.data.text_classification": "project.data.text_classification",
    "reprise.models.bert": "project.models.bert",
    "reprise.models.gpt2": "project.models.gpt2",
    "reprise.models.vit": "project.models.vit",
    "reprise.optimizers": "reprise.optimization.optimizers",
    "reprise.schedules": "reprise.optimization.schedules",
}


def with_current_targets(value: Any) -> Any:
    """Return nested plain values in which every `_target_` names the module where that part is now."""
    if isinstance(value, Mapping):
        return {key: _current(item) if key == "_target_" else with_current_targets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_current_targets(item) for item in value]
    return value


def _current(target: Any) -> Any:
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    return f"{_MOVED[module]}.{name}" if module in _MOVED else target
