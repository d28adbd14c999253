import io
import logging
import re
import sys
from dataclasses import replace

import pytest
from tiny_loop import end, make_run

from reprise.callbacks.progress import Progress
from reprise.files.content_hash import content_hash


@pytest.fixture
def lines(caplog):
    """Return a function that returns the lines logged so far."""
    caplog.set_level(logging.INFO, logger="reprise")
    return lambda: [record.getMessage() for record in caplog.records]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_every_evaluation_is_a_line_that_names_the_best(tmp_path, lines):
    scores = iter([2.0, 1.0, 1.5])
    run = make_run(tmp_path, {"progress": Progress()}, max_epochs=3, scores=lambda: {"val/loss": next(scores)})
    run.loop.run()
    end(run)
    first, second, third = lines()
    assert re.fullmatch(r"epoch 1/3  step 3/9  train/loss \d\.\d+  val/loss 2 \(best so far\)", first)
    assert second.startswith("epoch 2/3  step 6/9  ")
    assert second.endswith("val/loss 1 (best so far)")
    assert third.endswith("val/loss 1.5")


def test_between_evaluations_there_is_a_line_every_so_many_seconds_with_the_time_left(tmp_path, lines):
    run = make_run(tmp_path, {"progress": Progress(seconds=1e-9)}, max_epochs=1)
    run.loop.run()
    first, second, *_ = lines()
    assert first == "epoch 1/1  step 1/3  ? left"
    assert re.fullmatch(r"epoch 1/1  step 2/3  00:00:\d\d left", second)


def test_the_last_line_is_the_score_of_the_best_checkpoint(tmp_path, lines):
    run = make_run(tmp_path, {"progress": Progress()}, max_epochs=1)
    run.loop.run()
    run = replace(run, results={"epoch": 1, "metrics": {"test/loss": 0.25, "test/accuracy": 1.0}})
    end(run)
    assert lines()[-1] == "best checkpoint (epoch 1): test/loss 0.25  test/accuracy 1"


def test_without_a_terminal_nothing_is_drawn(tmp_path, capsys):
    run = make_run(tmp_path, {"progress": Progress(live=True)})
    run.loop.run()
    end(run)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_failed_before_its_first_step_ends_quietly(tmp_path, lines):
    run = make_run(tmp_path, {"progress": Progress()})
    end(run, "failed")
    assert lines() == []


def test_the_live_view_shows_epoch_step_and_scores_and_leaves_the_terminal_clean(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    run = make_run(tmp_path, {"progress": Progress()}, max_epochs=2)
    run.loop.run()
    end(run)
    drawn = terminal.getvalue()
    for expected in ("epoch 2", "6/6", "val/accuracy", "best val/loss", "(epoch "):
        assert expected in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # the cursor is shown again


def test_the_live_view_changes_no_bit_of_the_run(tmp_path, monkeypatch):
    plain = make_run(tmp_path / "plain", {"progress": Progress(live=False)}, dropout=0.3)
    plain.loop.run()
    monkeypatch.setattr(sys, "stdout", Terminal())
    live = make_run(tmp_path / "live", {"progress": Progress()}, dropout=0.3)
    live.loop.run()
    end(live)
    assert content_hash(live.loop.model.state_dict()) == content_hash(plain.loop.model.state_dict())
