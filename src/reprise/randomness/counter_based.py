"""Counter-based random numbers: each is computed from a seed and an index, so any of them can be had by itself."""

import functools

import numpy as np
from numpy.typing import NDArray


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
