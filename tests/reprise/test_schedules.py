import itertools
import math

import pytest
import torch
from torch import nn

from reprise.optimization.schedules import ConstantSchedule, CosineSchedule, LinearSchedule

RATE = 0.5
ALL = [ConstantSchedule, LinearSchedule, CosineSchedule]


def built(kind, warmup_steps=4, total_steps=12):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 2 * RATE}], lr=RATE)
    return optimizer, kind(optimizer, warmup_steps=warmup_steps, total_steps=total_steps)


def rates(kind, num_steps, **options):
    """Return the rate that each of the first `num_steps` optimizer steps takes."""
    optimizer, schedule = built(kind, **options)
    seen = []
    for _ in range(num_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("kind", ALL)
def test_the_rate_rises_linearly_from_the_first_step_to_the_full_rate(kind):
    assert rates(kind, 5) == [RATE / 4, RATE / 2, RATE * 3 / 4, RATE, RATE]


@pytest.mark.parametrize("kind", ALL)
def test_without_warm_up_the_first_step_takes_the_full_rate(kind):
    assert rates(kind, 1, warmup_steps=0) == [RATE]


def test_a_constant_schedule_stays_whatever_the_length_of_the_run():
    assert rates(ConstantSchedule, 40)[4:] == [RATE] * 36
    assert rates(ConstantSchedule, 12, total_steps=12) == rates(ConstantSchedule, 12, total_steps=99)


def test_a_linear_schedule_falls_by_equal_amounts_to_zero():
    assert rates(LinearSchedule, 13)[4:] == [RATE * (1 - k / 8) for k in range(9)]


def test_a_cosine_schedule_is_at_half_in_the_middle_and_at_zero_at_the_end():
    seen = rates(CosineSchedule, 13)
    assert seen[8] == pytest.approx(RATE / 2, rel=1e-15)
    assert seen[5] == RATE * 0.5 * (1 + math.cos(math.pi / 8))
    assert seen[12] == 0.0
    assert all(later < earlier for earlier, later in itertools.pairwise(seen[4:]))


@pytest.mark.parametrize("kind", [LinearSchedule, CosineSchedule])
def test_no_step_of_the_run_is_at_rate_zero_and_every_step_after_it_is(kind):
    seen = rates(kind, 20)
    assert min(seen[:12]) > 0
    assert seen[12:] == [0.0] * 8


@pytest.mark.parametrize("kind", ALL)
def test_every_group_keeps_its_own_rate(kind):
    optimizer, schedule = built(kind)
    for _ in range(7):
        optimizer.step()
        schedule.step()
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == 2 * first
        assert schedule.get_last_lr() == [first, second]


@pytest.mark.parametrize("kind", ALL)
def test_a_warm_up_longer_than_the_run_is_cut_off(kind):
    assert rates(kind, 3, warmup_steps=10, total_steps=3) == [RATE * k / 10 for k in (1, 2, 3)]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("num_steps", [0, 2, 4, 7, 11])
def test_a_schedule_carries_on_where_its_state_was_taken(kind, num_steps):
    optimizer, schedule = built(kind)
    for _ in range(num_steps):
        optimizer.step()
        schedule.step()
    # The optimizer's state is loaded as well, and with it come groups that the schedule has not seen.
    other_optimizer, other_schedule = built(kind)
    other_optimizer.load_state_dict(optimizer.state_dict())
    other_schedule.load_state_dict(schedule.state_dict())
    for _ in range(12 - num_steps):
        assert [g["lr"] for g in other_optimizer.param_groups] == [g["lr"] for g in optimizer.param_groups]
        for each in (optimizer, schedule, other_optimizer, other_schedule):
            each.step()
