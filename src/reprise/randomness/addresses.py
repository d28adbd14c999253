"""Addresses of random draws: each names one 64-bit seed, by a purpose and some numbers.

Every purpose of the engine has a function here, so that no two of them share an address. User code names purposes of
its own with `address` and `numpy_generator`.
"""

import hashlib
import random

import numpy as np
import torch

_HAS_MPS = torch.backends.mps.is_available()


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


def model_seed(seed: int, *part: str) -> int:
    """Return the seed for the initialisation of the model, or of a part that waits for its first batch."""
    return address(seed, "model", *part)


def order_seed(seed: int, epoch: int) -> int:
    """Return the seed for the order of the samples in an epoch, from 0."""
    return address(seed, "order", epoch)


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that permutes the samples in an epoch, from 0."""
    return numpy_generator(seed, "order", epoch)


def draws_seed(seed: int, split: str, epoch: int) -> int:
    """Return the seed for what a split draws for its samples, such as augmentation, in an epoch, from 0."""
    return address(seed, split, epoch)


def sample_seed(seed: int, split: str, epoch: int, index: int) -> int:
    """Return the seed of the global generators while a split fetches one sample."""
    return address(seed, split, epoch, index)


def step_seed(seed: int, step: int, microbatch: int) -> int:
    """Return the seed for what the model draws in a microbatch, from 0, of the optimizer step after `step` others."""
    return address(seed, "step", step, microbatch)


def after_step_seed(seed: int, step: int) -> int:
    """Return where the global generators stand after an accumulated step, whichever microbatches ran here."""
    return address(seed, "step", step)


def evaluation_seed(seed: int, split: str, batch: int) -> int:
    """Return the seed for what the model draws when it scores a batch, from 0, of a split."""
    return address(seed, "evaluation", split, batch)


def after_evaluation_seed(seed: int, split: str) -> int:
    """Return where the global generators stand after an evaluation, whichever batches were scored here."""
    return address(seed, "evaluation", split)


def generation_seed(seed: int) -> int:
    """Return the seed for the samples that a trained model writes for the model card."""
    return address(seed, "samples")


def splitting_generator(seed: int) -> np.random.Generator:
    """Return the generator that divides a data set into splits."""
    return numpy_generator(seed, "split")


def bootstrap_generator(num_samples: int) -> np.random.Generator:
    """Return the generator that resamples `num_samples` scores for confidence intervals; runs share it."""
    return numpy_generator("bootstrap", num_samples)


def search_seed(seed: int, position: int) -> int:
    """Return the seed for the sampler of a search at its `position`-th trial."""
    return address(seed, "search", position)
