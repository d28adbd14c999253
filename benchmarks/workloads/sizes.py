"""How large the language models are, and what they are fed; imports nothing that takes time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    family: str
    hidden_size: int
    num_layers: int
    length: int
    """Tokens of a sample."""
    batch_size: int


WORKLOADS = {
    "bert_base": Workload("bert", 768, 12, length=128, batch_size=32),
    "gpt2_small": Workload("gpt2", 768, 12, length=512, batch_size=8),
    # To try the contestants where there is no GPU.
    "bert_trial": Workload("bert", 64, 2, length=16, batch_size=4),
    "gpt2_trial": Workload("gpt2", 64, 2, length=16, batch_size=4),
}
