"""The states of the global generators, as a checkpoint keeps them for user code that has a stream of its own."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def capture_rng_state() -> dict[str, Any]:
    """Return the states of all global generators as tensors and plain values, under the keys of a checkpoint."""
    name, keys, position, has_gauss, cached_gaussian = np.random.get_state()
    state: dict[str, Any] = {
        "python_rng_state": random.getstate(),
        # NumPy's own tuple holds an array, which torch.load(weights_only=True) refuses.
        "numpy_rng_state": {
            "bit_generator": str(name),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached_gaussian),
        },
        "torch_rng_state": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda_rng_state"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Put the global generators into the states that `capture_rng_state` returned."""
    version, internal, gauss = state["python_rng_state"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = state["numpy_rng_state"]
    np.random.set_state(
        (
            numpy_state["bit_generator"],
            numpy_state["keys"].cpu().numpy().astype(np.uint32),
            numpy_state["position"],
            numpy_state["has_gauss"],
            numpy_state["cached_gaussian"],
        )
    )
    torch.set_rng_state(state["torch_rng_state"].cpu())
    cuda_states = state.get("cuda_rng_state")
    if cuda_states is not None and len(cuda_states) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in cuda_states])


def first_seed(torch_rng_state: torch.Tensor) -> int:
    """Return the seed that torch's generator was last put at, from a state that was captured later."""
    generator = torch.Generator()
    generator.set_state(torch_rng_state.cpu())
    return generator.initial_seed()
