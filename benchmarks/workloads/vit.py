"""A Vision Transformer of `transformers`, of 2.7 million parameters, on images of 16 × 16 pixels."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from reprise.data import Data

IMAGE_SIZE, NUM_LABELS = 16, 10
SPLITS = {"train": 512, "val": 64}


def build_vit(hidden_size: int, num_layers: int) -> nn.Module:
    """Return the model; it starts from the same weights in every process."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    model: nn.Module = ViTForImageClassification(
        ViTConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=hidden_size // 64,
            intermediate_size=4 * hidden_size,
            image_size=IMAGE_SIZE,
            patch_size=4,
            num_labels=NUM_LABELS,
            problem_type="single_label_classification",
        )
    )
    return model


def images() -> dict[str, dict[str, Tensor]]:
    """Return the columns of each split; the label of an image is its brightest stripe."""
    generator = torch.Generator().manual_seed(1)
    splits = {}
    for name, num_samples in SPLITS.items():
        labels = torch.randint(NUM_LABELS, (num_samples,), generator=generator)
        pixels = torch.randn(num_samples, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
        pixels[torch.arange(num_samples), :, labels] += 2.0
        splits[name] = {"pixel_values": pixels, "labels": labels}
    return splits


def load_images(*, seed: int) -> "Data":
    from workloads.data import as_data

    return as_data(images(), NUM_LABELS)
