from functools import partial

import pytest
import torch
from tiny_loop import end, make_run

from reprise.errors import NonFiniteError
from reprise.runs.metrics_log import read_metrics
from reprise.runs.persisters.checkpoints import Checkpoints
from reprise.runs.persisters.metrics_writer import MetricsLog

NAMES = ["metrics_log", "checkpoints"]


def logged_run(path, order=NAMES, every_steps=1, **options):
    callbacks = {"metrics_log": MetricsLog(every_steps), "checkpoints": Checkpoints(every_steps=2)}
    return make_run(path, {name: callbacks[name] for name in order}, **options)


def rows(run):
    return [(entry.epoch, entry.step, entry.metrics) for entry in read_metrics(run.directory.metrics_log)]


def test_every_evaluation_is_a_line_and_so_is_every_so_many_steps(tmp_path):
    run = logged_run(tmp_path, every_steps=2, gradient_clip=1.0)
    run.loop.run()
    end(run)
    of_step = {"train/step_loss", "train/gradient_norm", "train/learning_rate"}
    evaluation = {"train/loss", *run.loop.metrics}
    found = [(epoch, step, set(metrics)) for epoch, step, metrics in rows(run)]
    assert found == [(1, 2, of_step), (1, 3, evaluation), (2, 4, of_step), (2, 6, of_step | evaluation)]


def test_step_lines_can_be_left_out(tmp_path):
    run = logged_run(tmp_path, every_steps=None)
    run.loop.run()
    end(run)
    assert [step for _, step, _ in rows(run)] == [3, 6]


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
@pytest.mark.parametrize("killed_at", [1, 2, 3, 4, 5, 6])
def test_a_resumed_run_leaves_no_duplicate_and_no_gap(tmp_path, order, killed_at):
    whole = logged_run(tmp_path / "whole", order)
    whole.loop.run()
    end(whole)

    def kill():
        if first.loop.step == killed_at:
            raise RuntimeError("killed")

    first = logged_run(tmp_path / "killed", order)
    first.loop._events._commit.append(kill)
    with pytest.raises(RuntimeError):
        first.loop.run()
    end(first, "failed")
    with first.directory.metrics_log.open("a") as file:
        file.write('{"timestamp": "2026-')  # and a line that was being written
    second = logged_run(tmp_path / "killed", order)
    second.loop.run()
    end(second)
    assert rows(second) == rows(whole)


def test_a_step_that_overflows_in_half_precision_has_no_norm_and_ends_nothing(tmp_path):
    half = partial(torch.autocast, "cpu", dtype=torch.float16)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    run = logged_run(tmp_path, max_epochs=4, gradient_clip=1.0, autocast=half, scaler=scaler)
    run.loop.run()
    end(run)
    norms = ["train/gradient_norm" in metrics for _, _, metrics in rows(run)]
    assert norms[0] is False
    assert norms[-1] is True
    assert len(norms) == 12


def test_a_norm_that_is_no_number_ends_the_run_in_full_precision(tmp_path):
    run = logged_run(tmp_path, gradient_clip=1.0)
    run.loop.model.linear.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteError, match=r"gradient norm is (inf|nan) at step 1"):
        run.loop.run()
    end(run, "failed")
