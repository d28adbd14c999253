"""Private names of torch. Each is bound once, so that a training step pays no call for the detour."""

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.batchnorm import _NormBase as NormBase  # what keeps running statistics has no public base class

__all__ = [
    "BatchNorm",
    "NormBase",
    "foreach_add_",
    "foreach_div_",
    "foreach_norm",
    "fused_adamw_",
    "has_step_hooks",
    "unsaved_buffers",
]

# One kernel for many tensors: torch's own optimizers and clipping call these, and nothing public does.
foreach_add_ = torch._foreach_add_
foreach_div_ = torch._foreach_div_
foreach_norm = torch._foreach_norm

# The kernel of the fused AdamW. The public class gathers its state anew for every step, which takes longer.
fused_adamw_ = torch._fused_adamw_


def has_step_hooks(optimizer: torch.optim.Optimizer | Any) -> bool:
    """Return whether somebody observes the steps of an optimizer; there is no public way to ask."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def unsaved_buffers(module: torch.nn.Module) -> list[str]:
    """Return the names of a module's own buffers with `persistent=False`; `state_dict` may do far more than tell."""
    return [name for name, _ in module.named_buffers(recurse=False) if name in module._non_persistent_buffers_set]
