"""Fails when a new version of torch takes away, or changes, a private name of its writer that the engine relies on."""

from pathlib import Path

import pytest

from reprise.private_names.tensorboard import file_writer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_file_writer_writes_a_summary_of_many_values_as_one_event(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    values = [Summary.Value(tag=name, simple_value=0.5) for name in ("train/loss", "val/loss")]
    file_writer(writer).add_summary(Summary(value=values), 3, walltime=7.0)
    writer.close()
    events = [event for event in EventFileLoader(str(next(tmp_path.iterdir()))).Load() if event.summary.value]
    assert [(event.step, event.wall_time) for event in events] == [(3, 7.0)]
    assert [value.tag for value in events[0].summary.value] == ["train/loss", "val/loss"]
