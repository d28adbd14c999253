"""A checksum of the weights tells them apart by one bit, and carries on where a run is resumed."""

from pathlib import Path

import pytest
import torch
from tiny_loop import Net, end, make_run

from reprise.callbacks.weights_trace import WeightsTrace, checksum
from reprise.runs.persisters.checkpoints import Checkpoints


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_that_differ_in_the_last_bits_have_other_checksums(dtype: torch.dtype) -> None:
    model = Net().to(dtype)
    before = checksum(model)
    bits = {2: torch.int16}.get(model.linear.weight.element_size(), torch.int32)
    weight = model.linear.weight.detach().view(-1).view(bits)
    weight[0] += 1
    assert checksum(model) != before
    weight[4] -= 1  # in a plain sum, the two would cancel
    assert checksum(model) != before


def test_parameters_of_several_types_count() -> None:
    model = torch.nn.Sequential(Net(), Net().to(torch.bfloat16), Net())
    before = checksum(model)
    for part in model:
        part.linear.bias.data[0] += 1
        assert checksum(model) != before
        before = checksum(model)


def test_checksum_does_not_depend_on_threads_and_takes_no_parameters_too() -> None:
    model = torch.nn.Linear(512, 512)
    torch.set_num_threads(1)
    one = checksum(model)
    torch.set_num_threads(2)
    assert checksum(model) == one
    assert checksum(torch.nn.ReLU()) == 0


def test_resumed_run_has_the_whole_trace(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", {"trace": WeightsTrace(2)})
    whole.loop.run()
    end(whole)
    parts = {"trace": WeightsTrace(2), "checkpoints": Checkpoints()}
    stopped = make_run(tmp_path / "stopped", parts)
    step_end = stopped.loop._events.step_end

    def stop() -> None:
        step_end()
        if stopped.loop.step == 3:
            stopped.loop.interrupt("a test")

    stopped.loop._events.step_end = stop  # type: ignore[method-assign]
    stopped.loop.run()
    end(stopped)
    resumed = make_run(tmp_path / "stopped", {"trace": WeightsTrace(2), "checkpoints": Checkpoints()})
    resumed.loop.run()
    end(resumed)
    state, expected = resumed.callbacks["trace"].state_dict(), whole.callbacks["trace"].state_dict()
    assert state["steps"].tolist() == [2, 4, 6]
    assert state["checksums"].tolist() == expected["checksums"].tolist()


def test_nothing_is_traced_without_a_cadence(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"trace": WeightsTrace(None)})
    run.loop.run()
    end(run)
    assert run.callbacks["trace"].state_dict()["steps"].tolist() == []
