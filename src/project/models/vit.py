"""A Vision Transformer for image classification (Dosovitskiy et al. 2021), built from a `transformers` config."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from reprise.config import Fraction, PositiveFloat, PositiveInt, Probability
from reprise.errors import InputError


def build_vit(
    *,
    hidden_size: PositiveInt,
    num_layers: PositiveInt,
    dropout: Probability,
    num_heads: PositiveInt,
    intermediate_size: PositiveInt,
    patch_size: PositiveInt,
    initializer_range: PositiveFloat = 0.02,
    label_smoothing: Fraction = 0.0,
    image_size: PositiveInt,
    num_channels: PositiveInt,
    num_labels: PositiveInt,
    label_names: Sequence[str] = (),
) -> nn.Module:
    """Return a ViT with fresh weights; images are (B, `num_channels`, `image_size`, `image_size`).

    `label_smoothing` (Szegedy et al. 2016) counts in training only: the loss of an evaluation is that of the labels.
    """
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTForImageClassification

    if hidden_size % num_heads:
        raise InputError(f"model.num_heads: expected a divisor of model.hidden_size {hidden_size}, got {num_heads}")
    if image_size % patch_size:
        raise InputError(f"model.patch_size: expected a divisor of the image size {image_size}, got {patch_size}")
    names = list(label_names) or [str(label) for label in range(num_labels)]
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=initializer_range,
            image_size=image_size,
            patch_size=patch_size,
            num_channels=num_channels,
            id2label=dict(enumerate(names)),
            label2id={name: label for label, name in enumerate(names)},
            # Said here, since transformers would write it into the config at the first loss only.
            problem_type="single_label_classification",
        )
    )

    def loss(labels: Tensor, logits: Tensor, _: object, **__: object) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing if model.training else 0.0)

    if label_smoothing:
        model.loss_function = loss
    vit: nn.Module = model
    return vit
