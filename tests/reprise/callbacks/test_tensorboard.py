import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny_loop import end, make_run

from reprise.config.secrets import HIDDEN
from reprise.runs.metrics_log import read_metrics
from reprise.runs.persisters import metrics_writer as metrics_log
from reprise.runs.persisters.checkpoints import Checkpoints
from reprise.runs.persisters.metrics_writer import MetricsLog
from reprise.trackers import base as tracking
from reprise.trackers.tensorboard import TensorBoard

NAMES = ["checkpoints", "tensorboard", "metrics_log"]


def logged_run(path, order=NAMES, every_steps=1, **options):
    callbacks = {
        "metrics_log": MetricsLog(every_steps),
        "tensorboard": TensorBoard(),
        "checkpoints": Checkpoints(every_steps=2),
    }
    return make_run(path, {name: callbacks[name] for name in order}, gradient_clip=1.0, **options)


def in_event_files(run):
    """Return (step, value) by name, as TensorBoard shows them."""
    if not run.directory.tensorboard.exists():
        return {}
    accumulator = EventAccumulator(str(run.directory.tensorboard))
    accumulator.Reload()
    return {
        name: [(event.step, np.float32(event.value)) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def in_metrics_file(run):
    rows = {}
    for entry in read_metrics(run.directory.metrics_log):
        for name, value in entry.metrics.items():
            rows.setdefault(name, []).append((entry.step, np.float32(value)))
    return rows


@pytest.fixture
def at_once(monkeypatch):
    """Have every line written and sent with its commit, not every few seconds."""
    monkeypatch.setattr(metrics_log, "_SECONDS_BETWEEN_WRITES", -1.0)
    monkeypatch.setattr(tracking, "_SECONDS_BETWEEN_SENDINGS", -1.0)


def let_time_pass(run):
    """Make the event files older: TensorBoard reads them in the order of the second in their names."""
    for path in run.directory.tensorboard.glob("events.*"):
        *prefix, second, rest = path.name.split(".", 4)
        path.rename(path.with_name(".".join([*prefix, str(int(second) - 10), rest])))


def stop_at(run, step):
    run.loop._events._step_end.append(lambda: run.loop.interrupt("test") if run.loop.step == step else None)


def test_event_files_hold_what_the_metrics_file_holds(tmp_path):
    run = logged_run(tmp_path, every_steps=2)
    run.loop.run()
    end(run)
    expected = in_metrics_file(run)
    assert {"train/loss", "val/accuracy", "train/step_loss", "train/learning_rate"} < set(expected)
    assert in_event_files(run) == expected


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
@pytest.mark.parametrize("interrupted_at", [1, 3, 4])
def test_after_an_interruption_no_step_is_doubled_and_none_is_missing(tmp_path, order, interrupted_at):
    first = logged_run(tmp_path, order)
    stop_at(first, interrupted_at)
    first.loop.run()
    end(first, "interrupted")
    let_time_pass(first)
    second = logged_run(tmp_path, order)
    second.loop.run()
    end(second)
    found = in_event_files(second)
    assert found == in_metrics_file(second)
    assert [step for step, _ in found["train/step_loss"]] == [1, 2, 3, 4, 5, 6]


def raise_at(run, step):
    if run.loop.step == step:
        raise RuntimeError("killed")


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_after_a_kill_steps_that_are_done_again_are_shown_once_and_those_before_are_kept(tmp_path, at_once, order):
    first = logged_run(tmp_path, order)
    first.loop._events._step_end.append(lambda: raise_at(first, 6))  # the last checkpoint is that of step 4
    with pytest.raises(RuntimeError):
        first.loop.run()
    end(first, "failed")
    let_time_pass(first)
    assert len(in_event_files(first)["train/step_loss"]) == 5
    second = logged_run(tmp_path, order)
    assert second.loop.step == 4
    second.loop.run()
    end(second)
    found = in_event_files(second)
    assert [step for step, _ in found["train/step_loss"]] == [1, 2, 3, 4, 5, 6]
    assert found == in_metrics_file(second)


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_what_is_recorded_as_sent_is_on_disk_by_then(tmp_path, at_once, order):
    run = logged_run(tmp_path, order)
    seen = {}

    def look():
        record = run.directory.tensorboard / "sent.json"
        lines = json.loads(record.read_text())["step"] if record.exists() else 0
        seen[run.loop.step] = lines
        assert [step for step, _ in in_event_files(run).get("train/step_loss", [])] == list(range(1, lines + 1))

    run.loop._events._step_end.append(look)
    run.loop.run()
    end(run)
    assert seen[6] >= 4


def test_a_run_that_logs_nothing_leaves_no_event_file(tmp_path):
    run = logged_run(tmp_path)
    end(run, "failed")
    assert not run.directory.tensorboard.exists()


def complete(run):
    """Give the run what it has when it is complete."""
    config = {"seed": 0, "sizes": [1, 2], "training": {"max_steps": None}, "tracker": {"mine": {"token": "x"}}}
    run.directory.config.write_text(json.dumps(config))
    run.directory.results.mkdir(exist_ok=True)
    run.directory.metrics.write_text(json.dumps({"metrics": {"test/accuracy": 0.75}, "epoch": 3, "step": 6}))
    run.directory.model_card.write_text("---\ntags: []\n---\n\n# Card")
    return run


def texts(run):
    accumulator = EventAccumulator(str(run.directory.tensorboard))
    accumulator.Reload()
    shown = {}
    for tag in accumulator.Tags()["tensors"]:
        (event,) = accumulator.Tensors(tag)
        shown[tag.partition("/")[0]] = event.tensor_proto.string_val[0].decode()
    hparams = accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return shown, HParamsPluginData.FromString(hparams).session_start_info.hparams


def test_a_complete_run_shows_its_results_its_parameters_and_its_card(tmp_path):
    run = logged_run(tmp_path)
    run.loop.run()
    run = complete(run)
    end(run)
    assert in_event_files(run)["test/accuracy"] == [(6, np.float32(0.75))]
    shown, parameters = texts(run)
    assert shown["model_card"] == "# Card"
    assert "| `sizes` | `[1, 2]` |" in shown["parameters"]
    assert {name: value.string_value or value.number_value for name, value in parameters.items()} == {
        "seed": 0,
        "sizes": "[1, 2]",
        "tracker.mine.token": HIDDEN,
    }


def test_results_are_shown_once_although_the_run_was_killed_while_they_were_written(tmp_path, monkeypatch):
    first = logged_run(tmp_path)
    first.loop.run()
    first = complete(first)
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "_note", lambda *_, **__: None)  # killed before that
        end(first)
    let_time_pass(first)
    second = logged_run(tmp_path)
    second.loop.run()
    second = complete(second)
    end(second)
    expected = in_metrics_file(second) | {"test/accuracy": [(6, np.float32(0.75))]}
    assert in_event_files(second) == expected
    third = logged_run(tmp_path)
    third.loop.run()
    third = complete(third)
    end(third)
    assert in_event_files(third) == expected


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(tmp_path, at_once, monkeypatch, caplog):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(TensorBoard, "send", full)
    run = logged_run(tmp_path)
    run.loop.run()
    run = complete(run)
    end(run)
    assert run.loop.finished
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoard: OSError: no space left; the run goes on, and this is tried again",
        f"TensorBoard: not everything was sent; python scripts/sync.py {tmp_path} sends the rest",
    ]
    assert not (run.directory.tensorboard / "sent.json").exists()


def test_lines_that_could_not_be_written_are_shown_once_later(tmp_path, at_once, monkeypatch):
    add, failed = TensorBoard._add, []

    def full_once(self, metrics, step, seconds):
        add(self, metrics, step, seconds)
        if step == 3 and not failed:
            failed.append(step)
            raise OSError("no space left")

    monkeypatch.setattr(TensorBoard, "_add", full_once)
    monkeypatch.setattr(tracking, "_SECONDS_BETWEEN_TRIALS", (-1.0,))
    run = logged_run(tmp_path)
    run.loop._events._step_end.append(
        lambda: let_time_pass(run) if failed == [3] and failed.append(0) is None else None
    )
    run.loop.run()
    end(run)
    assert failed == [3, 0]
    assert in_event_files(run) == in_metrics_file(run)


@pytest.mark.parametrize("num_sent", [0, 3])
def test_a_run_of_version_0_1_is_resumed_with_every_step_once(tmp_path, num_sent):
    first = logged_run(tmp_path)
    stop_at(first, 3)
    first.loop.run()
    end(first, "interrupted")
    record = first.directory.tensorboard / "sent.json"
    lines = first.directory.metrics_log.read_text().splitlines(keepends=True)[:num_sent]
    record.write_text(json.dumps({"length": len("".join(lines)), "finished": False}))
    let_time_pass(first)
    if not num_sent:
        for path in first.directory.tensorboard.glob("events.*"):
            path.unlink()
    second = logged_run(tmp_path)
    second.loop.run()
    end(second)
    assert in_event_files(second) == in_metrics_file(second)
