"""All randomness is addressed, not streamed: a draw depends on where it is used, never on how many came before it.

An address is a purpose and some numbers, such as ``(seed, "order", epoch)``; it names one 64-bit seed. Nothing in
this module keeps state of its own.
"""

import functools
import hashlib
import os
import random
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

_HAS_MPS = torch.backends.mps.is_available()

Determinism = bool | Literal["strict"]


def address(*parts: int | str) -> int:
    """Return the 64-bit seed named by `parts`, the same on every machine and in every process."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator of its own for the address `parts`."""
    return np.random.Generator(np.random.PCG64(address(*parts)))


def seed_globals(seed: int) -> None:
    """Put the global generators of Python, NumPy and torch (every device in use) at the start of a 64-bit seed."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # Not torch.manual_seed: it also visits every backend that is not in use, which costs a hundred times more.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    elif _HAS_MPS:
        torch.mps.manual_seed(seed)


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


class SampleDraws:
    """Random numbers for the samples of one batch, each addressed by its sample's own index.

    A sample's numbers do not depend on the batch it is in, on the process that fetches it or on what was fetched
    before. They come from SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")
    run as a counter over the address, so that a whole batch is drawn in a few array operations.
    """

    def __init__(self, seed: int, indices: NDArray[np.int64]) -> None:
        self._seed = seed
        self._indices = indices
        self._drawn = 0

    @functools.cached_property
    def _start(self) -> NDArray[np.uint64]:
        # Made when something is drawn: most splits draw nothing.
        return _mix(np.uint64(self._seed) ^ _mix(self._indices.astype(np.uint64)))  # (B,)

    def uniform(self, num: int) -> NDArray[np.float64]:
        """Return the next `num` numbers of every sample, (B, num), uniform in [0, 1)."""
        counter = np.arange(self._drawn + 1, self._drawn + num + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._drawn += num
        bits = _mix(self._start[:, None] + counter)  # (B, num)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, low: int, high: int, num: int) -> NDArray[np.int64]:
        """Return the next `num` integers of every sample, (B, num), uniform from `low` to `high` - 1."""
        return low + (self.uniform(num) * (high - low)).astype(np.int64)


def permuted(numbers: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Return what becomes of each of some numbers in a permutation of 0 to `size` - 1, the one that `key` names.

    A Feistel network (Luby and Rackoff 1988, "How to construct pseudorandom permutations from pseudorandom functions")
    permutes all numbers of as many bits. What it makes too large of a number is permuted again until it is not (Black
    and Rogaway 2002, "Ciphers with arbitrary finite domains"), at most half of them each time.
    Of less than some forty numbers not all permutations are equally likely.
    """
    num_bits = max(2, (size - 1).bit_length())
    num_low = num_bits // 2
    low_mask = np.uint64((1 << num_low) - 1)
    # Each half is changed by the highest bits of what the other one is mixed to.
    shifts = np.uint64(64 - num_low), np.uint64(64 - (num_bits - num_low))
    keys = _mix(np.uint64(key) ^ _mix(np.arange(1, _NUM_ROUNDS + 1, dtype=np.uint64)))
    result = numbers.astype(np.uint64)
    beyond = np.arange(len(result))
    while len(beyond):
        whole = result[beyond]
        low, high = whole & low_mask, whole >> np.uint64(num_low)
        for number in range(0, _NUM_ROUNDS, 2):
            low ^= _mix(high ^ keys[number]) >> shifts[0]
            high ^= _mix(low ^ keys[number + 1]) >> shifts[1]
        result[beyond] = whole = (high << np.uint64(num_low)) | low
        beyond = beyond[whole >= np.uint64(size)]
    return result.astype(np.int64)


_NUM_ROUNDS = 8


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
