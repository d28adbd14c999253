"""A BERT that classifies and a GPT-2 that writes, both of `transformers`, on random tokens."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workloads.sizes import WORKLOADS

if TYPE_CHECKING:
    from reprise.data import Data

VOCAB_SIZE, NUM_LABELS = 30_000, 2


def build_language_model(workload: str) -> nn.Module:
    """Return the model; it starts from the same weights in every process."""
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    size = WORKLOADS[workload]
    torch.manual_seed(0)
    num_heads = size.hidden_size // 64
    if size.family == "gpt2":
        config = GPT2Config(
            vocab_size=VOCAB_SIZE, n_embd=size.hidden_size, n_layer=size.num_layers, n_head=num_heads, use_cache=False
        )
        return GPT2LMHeadModel(config)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=size.hidden_size,
            num_hidden_layers=size.num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * size.hidden_size,
            num_labels=NUM_LABELS,
            problem_type="single_label_classification",
        )
    )


def tokens(workload: str, num_batches: int) -> dict[str, Tensor]:
    """Return the columns of the training split: `input_ids` (N, T), and labels (N,) of a BERT or (N, T) of a GPT-2."""
    size = WORKLOADS[workload]
    generator = torch.Generator().manual_seed(1)
    num_samples = num_batches * size.batch_size
    ids = torch.randint(VOCAB_SIZE, (num_samples, size.length), generator=generator)
    labels = ids if size.family == "gpt2" else torch.randint(NUM_LABELS, (num_samples,), generator=generator)
    return {"input_ids": ids, "labels": labels}


def load_tokens(*, workload: str, num_batches: int, seed: int) -> "Data":
    from workloads.data import as_data

    return as_data({"train": tokens(workload, num_batches), "val": tokens(workload, 1)}, NUM_LABELS)
