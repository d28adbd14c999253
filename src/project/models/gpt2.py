"""GPT-2, a causal language model (Radford et al. 2019), built from a `transformers` config."""

from typing import Any

from torch import nn

from reprise.config import PositiveFloat, PositiveInt, Probability
from reprise.errors import InputError


def build_gpt2(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt,
    intermediate_size: PositiveInt | None = None,
    initializer_range: PositiveFloat = 0.02,
    vocab_size: PositiveInt,
    context_length: PositiveInt,
) -> nn.Module:
    """Return a GPT-2 with fresh weights for sequences of up to `context_length` tokens.

    `intermediate_size`: null for 4 `hidden_size`, as in the paper.
    """
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    if hidden_size % num_heads:
        raise InputError(f"model.num_heads: expected a divisor of model.hidden_size {hidden_size}, got {num_heads}")
    model: Any = GPT2LMHeadModel(
        GPT2Config(
            n_embd=hidden_size,
            n_layer=num_layers,
            n_head=num_heads,
            n_inner=intermediate_size,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            resid_pdrop=dropout,
            initializer_range=initializer_range,
            vocab_size=vocab_size,
            n_positions=context_length,
            # GPT-2's own numbers for these lie outside other vocabularies.
            bos_token_id=None,
            eos_token_id=None,
            # A cache of keys and values helps to write text, token by token; in training it is only in the way.
            use_cache=False,
        )
    )
    model.generation_config.use_cache = True  # for those who load the export
    # Said here, since transformers would take it too, but warn: it does not find it in the name of the class.
    model.loss_type = "ForCausalLM"
    gpt2: nn.Module = model
    return gpt2
