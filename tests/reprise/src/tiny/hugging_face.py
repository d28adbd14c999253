"""Models of `transformers` with fresh weights of a few thousand parameters."""

from collections.abc import Sequence

from torch import nn

from reprise.config import PositiveInt, Probability

_NUM_HEADS = 2


def build_bert(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    vocab_size: PositiveInt,
    max_length: PositiveInt,
    pad_token_id: int,
    label_names: Sequence[str],
) -> nn.Module:
    """Return a BERT with a classifier."""
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForSequenceClassification

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=_NUM_HEADS,
        intermediate_size=hidden_size,
        hidden_dropout_prob=dropout,
        max_position_embeddings=max_length,
        pad_token_id=pad_token_id,
        id2label=dict(enumerate(label_names)),
        problem_type="single_label_classification",
    )
    bert: nn.Module = BertForSequenceClassification(config)
    return bert


def build_gpt2(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    vocab_size: PositiveInt,
    context_length: PositiveInt,
) -> nn.Module:
    """Return a GPT-2 for sequences of up to `context_length` tokens."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    shape = {"n_positions": context_length, "n_embd": hidden_size, "n_layer": num_layers, "n_head": _NUM_HEADS}
    config = GPT2Config(vocab_size=vocab_size, **shape, bos_token_id=None, eos_token_id=None, use_cache=False)
    config.resid_pdrop = dropout
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"
    gpt2: nn.Module = model
    return gpt2
