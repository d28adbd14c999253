import pytest
from tiny_loop import end, make_run

from reprise.callbacks.early_stopping import EarlyStopping
from reprise.runs.persisters.checkpoints import Checkpoints


def scripted(values):
    iterator = iter(values)
    return lambda: {"val/loss": next(iterator)}


def stopping_run(path, values, patience, **options):
    return make_run(
        path,
        {"early_stopping": EarlyStopping(patience), "checkpoints": Checkpoints()},
        max_epochs=10,
        scores=scripted(values),
        **options,
    )


@pytest.mark.parametrize(
    ("patience", "values", "num_evaluations"),
    [
        (1, [3.0, 2.0, 2.0], 3),
        (2, [3.0, 2.0, 2.5, 1.0, 1.5, 1.5], 6),
        (3, [1.0, 1.0, 1.0, 1.0], 4),
        (2, [5.0, 4.0, 3.0, 2.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5], 10),
    ],
)
def test_training_ends_after_so_many_evaluations_without_a_better_one(tmp_path, patience, values, num_evaluations):
    run = stopping_run(tmp_path, values, patience)
    run.loop.run()
    assert run.loop.epoch == num_evaluations
    expected = f"val/loss did not improve in {patience} evaluations" if num_evaluations < 10 else None
    assert run.loop.stop_reason == expected
    assert run.loop.best.value == min(values)


def test_evaluations_count_not_epochs(tmp_path):
    run = stopping_run(tmp_path, [1.0] * 3, patience=2, eval_every_steps=1)
    run.loop.run()
    assert run.loop.step == 3


def test_for_a_metric_that_rises_better_is_higher(tmp_path):
    run = stopping_run(tmp_path, [1.0, 2.0, 3.0, 3.0, 2.0], patience=2, monitor_mode="max")
    run.loop.run()
    assert (run.loop.epoch, run.loop.best.epoch) == (5, 3)


@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
def test_patience_survives_an_interruption(tmp_path, interrupted_after):
    values = [3.0, 2.0, 2.5, 2.5, 2.5]
    first = stopping_run(tmp_path, values, patience=3)
    observed = first.loop._events._epoch_end
    observed.append(lambda: first.loop.interrupt("test") if first.loop.epoch == interrupted_after else None)
    first.loop.run()
    end(first, "interrupted")
    assert not first.loop.finished
    second = stopping_run(tmp_path, values[interrupted_after:], patience=3)
    second.loop.run()
    assert second.loop.epoch == 5
    assert second.loop.stop_reason == "val/loss did not improve in 3 evaluations"


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    first = stopping_run(tmp_path, [1.0, 1.0], patience=1)
    first.loop.run()
    second = stopping_run(tmp_path, [], patience=1)
    second.loop.run()
    assert (second.loop.step, second.loop.stop_reason) == (first.loop.step, first.loop.stop_reason)
