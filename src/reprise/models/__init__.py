"""What a model is here.

A model is any `torch.nn.Module` whose `forward(**batch)` returns an object with `.loss`, the mean over the batch's
items, and `.logits`; so every `transformers` model works as it is. `ModelOutput` is such an object for models of
one's own. Name the class, or a function that builds it, in YAML as `_target_`, beside its arguments; it may also
take, by name, the facts that the data set gives (`num_labels`, `vocab_size` …).

Whoever runs a model outside of training does so inside `evaluating(model)`, and nothing of it stays.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reprise.files.content_hash import content_hash
from reprise.models.evaluation_mode import evaluating

__all__ = ["ModelOutput", "describe_model", "evaluating", "is_transformers_model"]


@dataclass
class ModelOutput:
    """What `forward` returns."""

    logits: Tensor
    loss: Tensor | None = None
    """Mean over the items of the batch; None where no labels were given."""


def is_transformers_model(model: nn.Module) -> bool:
    """Return whether `model` is a `transformers.PreTrainedModel`, without importing that."""
    return any(
        f"{kind.__module__}.{kind.__name__}" == "transformers.modeling_utils.PreTrainedModel"
        for kind in type(model).__mro__
    )


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Return class and size of a model and the hash of its present weights."""
    kind = type(model)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "library": "transformers" if is_transformers_model(model) else "pytorch",
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "initial_sha256": content_hash(model.state_dict()),
    }
