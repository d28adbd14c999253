"""Seeds all global generators at the start of a run, and chooses between deterministic and fast kernels."""

import os
import random
from typing import Literal

import numpy as np
import torch

Determinism = bool | Literal["strict"]


def set_determinism(deterministic: Determinism) -> None:
    """Choose between kernels that repeat to the bit and kernels that may be faster.

    `True` takes deterministic kernels and warns where an operation has none, `"strict"` raises there, `False` lets
    torch choose freely. See https://docs.pytorch.org/docs/stable/notes/randomness.html.
    """
    if deterministic:
        # cuBLAS reads this when its first handle is made; a value that the user has set stays.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not torch.use_deterministic_algorithms, which imports the compiler to tell it too: that takes as long as torch.
    torch.set_deterministic_debug_mode("default" if not deterministic else "warn" if deterministic is True else "error")
    # Uninitialised memory is a debugging aid of the deterministic mode, not part of it, and costs a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = bool(deterministic)


def set_seed(seed: int, deterministic: Determinism = True) -> None:
    """Seed Python, NumPy and torch on every device, and choose deterministic kernels.

    `seed` is any integer from 0 to 2**32 - 1, the range that all of them accept.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected an integer from 0 to 2**32 - 1, got {seed!r}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    set_determinism(deterministic)
