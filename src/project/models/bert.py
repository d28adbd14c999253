"""BERT for text classification (Devlin et al. 2019): with fresh weights, or pretrained ones of any such encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from reprise.config import PositiveFloat, PositiveInt, Probability
from reprise.errors import InputError
from reprise.models.pretrained import load_pretrained

_DROPOUT_KEYS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


def build_bert(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt | None = None,
    intermediate_size: PositiveInt | None = None,
    initializer_range: PositiveFloat = 0.02,
    pretrained: str | None,
    vocab_size: PositiveInt,
    max_length: PositiveInt,
    pad_token_id: int = 0,
    num_labels: PositiveInt,
    label_names: Sequence[str] = (),
) -> nn.Module:
    """Return an encoder with a classifier for texts of up to `max_length` tokens.

    `pretrained`: null for fresh weights, or a directory or name on the Hub; `hidden_size` and `num_layers` must then be
    those of its weights. `num_heads` and `intermediate_size` are for fresh weights; null: `hidden_size` / 64 and
    4 `hidden_size`, as in the paper.

    Raises:
        InputError: if the weights cannot be loaded, or fit neither the config nor the tokenizer.
    """
    names = list(label_names) or [str(label) for label in range(num_labels)]
    classes: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: label for label, name in enumerate(names)},
        # Said here, since transformers would write it into the config at the first loss only.
        "problem_type": "single_label_classification",
    }
    if pretrained is not None:
        return _load(pretrained, hidden_size, num_layers, dropout, vocab_size, max_length, classes)

    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForSequenceClassification

    num_heads = max(1, hidden_size // 64) if num_heads is None else num_heads
    if hidden_size % num_heads:
        raise InputError(f"model.num_heads: expected a divisor of model.hidden_size {hidden_size}, got {num_heads}")
    model: nn.Module = BertForSequenceClassification(
        BertConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * hidden_size if intermediate_size is None else intermediate_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=initializer_range,
            vocab_size=vocab_size,
            max_position_embeddings=max_length,
            pad_token_id=pad_token_id,
            **classes,
        )
    )
    return model


def _load(
    name: str,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    vocab_size: int,
    max_length: int,
    classes: dict[str, Any],
) -> nn.Module:
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModelForSequenceClassification

    advice = "give a local directory, or take a model that needs no network: model=bert_tiny"
    config = load_pretrained(AutoConfig.from_pretrained, name, "model.pretrained", advice)
    _check(name, config, hidden_size, num_layers, vocab_size, max_length)
    for key in _DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, dropout)
    for key, value in classes.items():
        setattr(config, key, value)
    model, report = load_pretrained(
        AutoModelForSequenceClassification.from_pretrained,
        name,
        "model.pretrained",
        advice,
        config=config,
        dtype=torch.float32,  # the default takes the file's; lower precision is for autocast to choose
        ignore_mismatched_sizes=True,  # a classifier of other classes starts afresh
        output_loading_info=True,
    )
    encoder = f"{model.base_model_prefix}."
    fresh = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    lost = sorted(key for key in fresh if key.startswith(encoder) and ".pooler." not in key)
    if lost:
        raise InputError(f"model.pretrained: {name!r} lacks {len(lost)} weights of the encoder, such as {lost[0]}")
    loaded: nn.Module = model
    return loaded


def _check(name: str, config: Any, hidden_size: int, num_layers: int, vocab_size: int, max_length: int) -> None:
    for key, expected, found in (
        ("model.hidden_size", config.hidden_size, hidden_size),
        ("model.num_layers", config.num_hidden_layers, num_layers),
    ):
        if found != expected:
            raise InputError(f"{key}: expected {expected}, as the weights of {name!r} have, got {found}")
    if max_length > config.max_position_embeddings:
        raise InputError(
            f"data.max_length: expected at most {config.max_position_embeddings}, as {name!r} takes, got {max_length}"
        )
    if vocab_size > config.vocab_size:
        raise InputError(
            f"model.tokenizer: its {vocab_size} tokens are more than the {config.vocab_size} that {name!r} knows; "
            f"expected the tokenizer that belongs to the weights"
        )
