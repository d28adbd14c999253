"""A model with an operation that has no deterministic implementation, not even on a CPU: `put_`."""

import functools
from typing import Any

import torch
from tiny.hugging_face import build_vit
from torch import nn


@functools.wraps(build_vit)
def build_unrepeatable_vit(**arguments: Any) -> nn.Module:
    model = build_vit(**arguments)
    model.register_forward_pre_hook(_put_pixels_back)
    return model


def _put_pixels_back(model: nn.Module, inputs: Any) -> None:
    pixels = torch.zeros(4)
    pixels.put_(torch.tensor([1, 1]), torch.ones(2))
