"""Sums whose order does not depend on how many processes have the parts."""

from collections.abc import Sequence

from torch import Tensor

from reprise.training.accumulation import num_halvings


def has_order_of_one(num_processes: int, num_microbatches: int, parallel: str, reduction: str) -> bool:
    """Return whether so many processes have the bits of one (on CPUs, with the same number of threads)."""
    if num_processes == 1:
        return True
    is_tree = num_processes == num_microbatches or num_processes == 2 ** num_halvings(num_processes)
    return parallel == "ddp" and (num_processes == 2 or (reduction == "ordered" and is_tree))


def sum_in_order(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of parts, halves of halves first, down to a number that cannot be halved."""
    if len(parts) % 2 == 0:
        half = len(parts) // 2
        return sum_in_order(parts[:half]) + sum_in_order(parts[half:])
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
