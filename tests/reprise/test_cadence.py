from reprise.training.cadence import Cadence, is_every, num_steps_per_epoch, num_total_steps


def test_an_evaluation_is_due_at_the_end_of_each_epoch_and_every_so_many_steps() -> None:
    cadence = Cadence(steps_per_epoch=3, total_steps=8, eval_every_steps=4)
    assert [step for step in range(1, 9) if cadence.evaluates(step)] == [3, 4, 6, 8]
    assert [step for step in range(1, 9) if Cadence(3, 8).evaluates(step)] == [3, 6]
    assert [cadence.epoch_of(step) for step in range(7)] == [1, 1, 1, 1, 2, 2, 2]


def test_what_has_no_period_is_never_due() -> None:
    assert [is_every(None, step) for step in (0, 1, 2)] == [False] * 3
    assert [step for step in range(1, 7) if is_every(2, step)] == [2, 4, 6]


def test_the_last_step_of_an_epoch_may_have_fewer_batches() -> None:
    assert [num_steps_per_epoch(num, 3) for num in (1, 3, 4)] == [1, 1, 2]
    assert (num_total_steps(5, 2, None), num_total_steps(5, 2, 7), num_total_steps(5, 2, 70)) == (10, 7, 10)
