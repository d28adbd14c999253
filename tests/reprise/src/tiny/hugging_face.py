"""Models of `transformers` with fresh weights of a few thousand parameters."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from reprise.config import Fraction, PositiveInt, Probability
from reprise.errors import InputError


def build_vit(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt,
    intermediate_size: PositiveInt,
    label_smoothing: Fraction = 0.0,
    image_size: PositiveInt,
    num_channels: PositiveInt,
    num_labels: PositiveInt,
    label_names: Sequence[str] = (),
) -> nn.Module:
    """Return a Vision Transformer of patches of 4 × 4 pixels; its `label_smoothing` counts in training only."""
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTForImageClassification

    if hidden_size % num_heads:
        raise InputError(f"model.num_heads: expected a divisor of model.hidden_size {hidden_size}, got {num_heads}")
    names = list(label_names) or [str(label) for label in range(num_labels)]
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.1,
            image_size=image_size,
            patch_size=4,
            num_channels=num_channels,
            id2label=dict(enumerate(names)),
            label2id={name: label for label, name in enumerate(names)},
            problem_type="single_label_classification",
        )
    )

    def loss(labels: Tensor, logits: Tensor, _: object, **__: object) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing if model.training else 0.0)

    if label_smoothing:
        model.loss_function = loss
    vit: nn.Module = model
    return vit


def build_bert(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt,
    intermediate_size: PositiveInt,
    vocab_size: PositiveInt,
    max_length: PositiveInt,
    pad_token_id: int,
    num_labels: PositiveInt,
    label_names: Sequence[str],
) -> nn.Module:
    """Return a BERT with a classifier."""
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForSequenceClassification

    model: nn.Module = BertForSequenceClassification(
        BertConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.1,
            vocab_size=vocab_size,
            max_position_embeddings=max_length,
            pad_token_id=pad_token_id,
            id2label=dict(enumerate(label_names)),
            label2id={name: label for label, name in enumerate(label_names)},
            num_labels=num_labels,
            problem_type="single_label_classification",
        )
    )
    return model


def build_gpt2(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt,
    vocab_size: PositiveInt,
    context_length: PositiveInt,
) -> nn.Module:
    """Return a GPT-2 for sequences of up to `context_length` tokens."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            n_embd=hidden_size,
            n_layer=num_layers,
            n_head=num_heads,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            resid_pdrop=dropout,
            initializer_range=0.06,
            vocab_size=vocab_size,
            n_positions=context_length,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
    )
    model.loss_type = "ForCausalLM"
    gpt2: nn.Module = model
    return gpt2
