"""What a model is here, and the worked examples.

A model is any `torch.nn.Module` whose `forward(**batch)` returns an object with `.loss`, the mean over the batch's
items, and `.logits`; so every `transformers` model works as it is. `ModelOutput` is such an object for models of
one's own. Name the class, or a function that builds it, in YAML as `_target_`, beside its arguments; it may also
take, by name, the facts that the data set gives (`num_labels`, `vocab_size` …).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ModelOutput:
    """What `forward` returns."""

    logits: Tensor
    loss: Tensor | None = None
    """Mean over the items of the batch; None where no labels were given."""
