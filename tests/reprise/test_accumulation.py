"""The order in which gradients are summed does not depend on how many processes share the microbatches."""

from collections.abc import Callable

import pytest
import torch
from tiny_loop import Net, make_split
from torch import Tensor, nn

from reprise.files.content_hash import content_hash
from reprise.training.accumulation import Accumulation, num_halvings
from reprise.training.ordered_sums import has_order_of_one, sum_in_order
from reprise.training.processes import Processes, Reduction


def gradients_of(num: int, present: int) -> list[Tensor]:
    """Return gradients whose sum has other bits in another order."""
    generator = torch.Generator().manual_seed(num)
    return [torch.randn(257, generator=generator) * 10.0 ** (3 * i % 5) for i in range(present)]


def accumulate(accumulation: Accumulation, counts: list[int], backward: Callable[[int, float], Tensor]) -> Tensor:
    """Do as a step does; `backward` takes the number and the weight of a microbatch, and returns its loss."""
    weights, _ = accumulation.weigh(counts, len(counts))
    losses = []
    for position, weight in enumerate(weights):
        with accumulation.microbatch(position, len(counts)):
            losses.append(backward(position, weight))
    return accumulation.finish(losses, len(counts))


def summed(num: int, present: int, reduction: Reduction, rank: int = 0, size: int = 1) -> Tensor:
    """Return the gradient that one of `size` processes comes to by itself, 0 where it has no microbatch."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(257))
    gradients = gradients_of(num, present)
    accumulation = Accumulation(model, num, processes=Processes(), reduction=reduction)
    if size > 1:
        share = Processes(rank, size).share(num)
        accumulation = Accumulation(model, len(share), reduction=reduction)
        if reduction == "ring":
            accumulation._num_per_leaf = len(share)
        gradients = gradients[share.start : share.stop]
    if not gradients:
        return torch.zeros(257)

    def backward(index: int, weight: float) -> Tensor:
        (gradients[index] * model.weight).sum().backward()
        return torch.zeros(())

    accumulate(accumulation, [1] * len(gradients), backward)
    assert model.weight.grad is not None
    return model.weight.grad


@pytest.mark.parametrize("num", [2, 4, 6, 8, 12])
def test_two_processes_come_to_the_sum_of_one(num: int) -> None:
    for present in range(1, num + 1):
        for reduction in ("ring", "ordered"):
            parts = [summed(num, present, reduction, rank, 2) for rank in range(2)]
            one = summed(num, present, reduction)
            assert content_hash(parts[0] + parts[1]) == content_hash(parts[1] + parts[0]) == content_hash(one)


@pytest.mark.parametrize(("num", "size"), [(4, 4), (8, 4), (8, 8), (12, 4), (16, 8), (3, 3), (6, 6)])
def test_an_ordered_sum_is_that_of_one_process(num: int, size: int) -> None:
    assert has_order_of_one(size, num, "ddp", "ordered")
    for present in range(1, num + 1):
        parts = [summed(num, present, "ordered", rank, size) for rank in range(size)]
        assert content_hash(sum_in_order(parts)) == content_hash(summed(num, present, "ordered"))


def test_another_order_has_other_bits() -> None:
    parts = [summed(8, 8, "ordered", rank, 4) for rank in range(4)]
    left_to_right = parts[0] + parts[1] + parts[2] + parts[3]
    assert content_hash(left_to_right) != content_hash(summed(8, 8, "ordered"))
    assert content_hash(summed(8, 8, "ring")) != content_hash(summed(8, 8, "ordered"))


def test_what_cannot_be_halved_is_summed_from_left_to_right() -> None:
    assert [num_halvings(num) for num in (1, 2, 3, 4, 6, 12, 16)] == [0, 1, 0, 2, 1, 2, 4]
    first, *others = gradients_of(3, 3)
    for other in others:
        first = first + other
    assert torch.equal(sum_in_order(gradients_of(3, 3)), first)


@pytest.mark.parametrize(
    ("num_processes", "num_microbatches", "parallel", "reduction", "expected"),
    [
        (1, 4, "fsdp", "ring", True),
        (2, 4, "ddp", "ring", True),
        (4, 4, "ddp", "ring", False),
        (4, 8, "ddp", "ordered", True),
        (3, 6, "ddp", "ordered", False),
        (2, 4, "fsdp", "ring", False),
    ],
)
def test_it_is_known_which_numbers_of_processes_have_the_bits_of_one(
    num_processes: int, num_microbatches: int, parallel: str, reduction: str, expected: bool
) -> None:
    assert has_order_of_one(num_processes, num_microbatches, parallel, reduction) == expected


def test_a_step_moves_running_statistics_once_to_the_mean_of_its_microbatches() -> None:
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm, Net())
    seen = []

    def forward(inputs: Tensor, labels: Tensor) -> object:
        seen.append(inputs)
        return model[1](norm(inputs), labels)

    accumulation = Accumulation(model, 4)
    split = make_split(8).columns
    batches = [{name: column[i : i + 2] for name, column in split.items()} for i in range(0, 8, 2)]

    def backward(index: int, weight: float) -> Tensor:
        loss: Tensor = forward(**batches[index]).loss * weight  # type: ignore[attr-defined]
        loss.backward()
        return loss.detach()

    accumulate(accumulation, [2] * 4, backward)
    means = torch.stack([inputs.mean(0) for inputs in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * means)
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]
