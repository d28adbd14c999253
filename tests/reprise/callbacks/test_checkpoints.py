import pytest
from tiny_loop import make_run

from reprise.callbacks import Callback
from reprise.errors import NonFiniteError
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import HostCopy, read_checkpoint
from reprise.runs.persisters.checkpoints import Checkpoints


class RecordCheckpoints(Callback):
    """Notes after each step which checkpoints hold which step."""

    def __init__(self):
        self.seen = []

    def on_commit(self, run):
        # Listed last, so that those of this step are there.
        self.seen.append({path.stem: read_checkpoint(path)["step"] for path in run.directory.checkpoints.iterdir()})


def checkpointed(path, scores, every_epochs=None, every_steps=None, keep=None, **options):
    """Train three steps an epoch; return which checkpoints held which step after each of them."""
    values = iter(scores)
    record = RecordCheckpoints()
    run = make_run(
        path,
        {"checkpoints": Checkpoints(every_epochs, every_steps, background=False, keep=keep), "record": record},
        scores=lambda: {"val/loss": next(values)},
        max_epochs=len(scores),
        **options,
    )
    run.loop.run()
    return run, record.seen


def test_last_is_written_at_each_epochs_end_and_best_when_it_is_better(tmp_path):
    _, seen = checkpointed(tmp_path, [2.0, 3.0, 1.0])
    assert seen[:2] == [{}, {}]
    assert seen[2] == {"best": 3, "last": 3}
    assert seen[5] == {"best": 3, "last": 6}
    assert seen[8] == {"best": 9, "last": 9}


def test_of_equal_scores_the_first_stays_the_best(tmp_path):
    _, seen = checkpointed(tmp_path, [1.0, 1.0, 1.0])
    assert seen[-1] == {"best": 3, "last": 9}


def test_periodic_checkpoints_are_kept_and_independent_of_best_and_last(tmp_path):
    _, seen = checkpointed(tmp_path, [1.0, 2.0, 2.0, 2.0, 2.0], every_epochs=2)
    assert seen[-1] == {"best": 3, "last": 15, "epoch_002": 6, "epoch_004": 12}


def test_of_the_periodic_checkpoints_the_newest_are_kept(tmp_path):
    _, seen = checkpointed(tmp_path, [1.0, 2.0, 2.0, 2.0, 2.0], every_epochs=1, keep=2)
    periodic = [{name for name in there if name.startswith("epoch_")} for there in seen[2::3]]
    assert periodic == [
        {"epoch_001"},
        {"epoch_001", "epoch_002"},
        {"epoch_002", "epoch_003"},
        {"epoch_003", "epoch_004"},
        {"epoch_004", "epoch_005"},
    ]
    assert {"best": 3, "last": 15}.items() <= seen[-1].items()


def test_a_step_that_is_not_finite_leaves_the_last_good_checkpoint_in_place(tmp_path):
    """Nothing is clipped, so that nobody has seen the gradient; the loss of the step was a number."""
    run = make_run(tmp_path, {"checkpoints": Checkpoints(every_steps=1, background=False)})
    weight = run.loop.model.linear.weight
    weight.register_hook(lambda gradient: gradient * float("inf") if run.loop.step == 3 else gradient)
    with pytest.raises(NonFiniteError, match="a weight is"):
        run.loop.run()
    state = read_checkpoint(run.directory.last_checkpoint)
    assert state["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["model_state_dict"].values())


def test_last_is_written_every_so_many_steps_too(tmp_path):
    _, seen = checkpointed(tmp_path, [1.0, 2.0], every_steps=2)
    assert [there.get("last") for there in seen] == [None, 2, 3, 4, 4, 6]


def test_best_is_written_in_the_middle_of_an_epoch_where_that_is_evaluated(tmp_path):
    run = make_run(tmp_path, {"checkpoints": Checkpoints()}, eval_every_steps=1, max_steps=2)
    run.loop.run()
    assert read_checkpoint(run.directory.best_checkpoint)["step"] == run.loop.best.step


def test_last_is_written_when_a_run_ends_in_the_middle_of_an_epoch(tmp_path):
    run = make_run(tmp_path, {"checkpoints": Checkpoints()}, max_steps=4)
    run.loop.run()
    assert read_checkpoint(run.directory.last_checkpoint)["step"] == 4


def test_last_is_written_when_a_run_is_interrupted(tmp_path):
    run = make_run(tmp_path, {"checkpoints": Checkpoints()})
    run.loop._events._step_end.append(lambda: run.loop.interrupt("test") if run.loop.step == 2 else None)
    run.loop.run()
    assert [path.stem for path in run.directory.checkpoints.iterdir()] == ["last"]
    assert read_checkpoint(run.directory.last_checkpoint)["step"] == 2


class Counting(Callback):
    def __init__(self):
        self.num_steps = 0

    def on_step_end(self, run):
        self.num_steps += 1

    def state_dict(self):
        return {"num_steps": self.num_steps}


def test_a_checkpoint_holds_weights_scores_and_what_callbacks_remember(tmp_path):
    run = make_run(tmp_path, {"checkpoints": Checkpoints(), "counting": Counting()})
    run.loop.run()
    state = read_checkpoint(run.directory.last_checkpoint)
    assert content_hash(state["model_state_dict"]) == content_hash(dict(run.loop.model.state_dict()))
    assert (state["epoch"], state["step"], state["metrics"]) == (2, 6, run.loop.metrics)
    assert state["loop_state"]["step"] == 6
    assert state["callback_states"] == {"checkpoints": {}, "counting": {"num_steps": 6}}


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_order_of_callbacks_changes_no_bit_of_a_checkpoint(tmp_path, name):
    def content(path, order):
        callbacks = {"checkpoints": Checkpoints(), "counting": Counting(), "early": Callback()}
        run = make_run(path, {key: callbacks[key] for key in order})
        run.loop.run()
        state = read_checkpoint(run.directory.checkpoint(name))
        # The state of Python, NumPy and torch's own streams is whatever it was before this test.
        return content_hash({key: value for key, value in state.items() if "rng" not in key and key != "sha256"})

    first = content(tmp_path / "first", ["checkpoints", "counting", "early"])
    assert content(tmp_path / "second", ["early", "counting", "checkpoints"]) == first


def test_what_is_written_in_the_background_is_what_was_there_at_the_commit(tmp_path):
    """Training goes on while a checkpoint is written; here it has ended before the first byte is."""

    def contents(path, background):
        checkpoints = Checkpoints(every_epochs=1, every_steps=1, background=background)
        run = make_run(path, {"checkpoints": checkpoints}, dropout=0.5, eval_every_steps=2)
        works = []
        if background:
            checkpoints._writer.start = works.append
            checkpoints._host_copy.take = lambda state: HostCopy().take(state)  # each copy is kept
        run.loop.run()
        assert len(works) == (6 if background else 0)
        for work in works:
            work()
        states = {file.name: read_checkpoint(file) for file in run.directory.checkpoints.iterdir()}
        return {
            name: content_hash({key: value for key, value in state.items() if "rng" not in key and key != "sha256"})
            for name, state in states.items()
            if name.startswith("epoch")  # of the others, the last to be written stays
        }

    in_line = contents(tmp_path / "in line", False)
    assert sorted(in_line) == ["epoch_001.pt", "epoch_002.pt"]
    assert contents(tmp_path / "background", True) == in_line


def test_an_error_in_the_background_is_raised_at_the_next_commit_and_the_last_checkpoint_stays(tmp_path):
    run = make_run(tmp_path, {"checkpoints": Checkpoints(every_steps=1)})

    def fill_disk():
        if run.loop.step == 3:
            run.callbacks["checkpoints"]._writer.wait()
            run.directory.checkpoints.rename(tmp_path / "gone")

    run.loop._events._step_end.append(fill_disk)
    with pytest.raises(FileNotFoundError, match="checkpoints"):
        run.loop.run()
    assert run.loop.step in (3, 4)
    assert read_checkpoint(tmp_path / "gone" / "last.pt")["step"] == 2


def test_a_better_checkpoint_replaces_the_best_only_with_the_state_that_says_so(tmp_path):
    """Killed between two commits, and carried on in another way, the best is still that of the last checkpoint."""

    def kill(run):
        if run.loop.step == 5:
            raise RuntimeError("killed")

    def options(values):
        values = iter(values)
        return {"scores": lambda: {"val/loss": next(values)}, "eval_every_steps": 1, "max_epochs": 2}

    # last.pt is written at steps 2, 3, 4; the best of step 3 gives way to that of step 5, before the kill.
    first = make_run(
        tmp_path, {"checkpoints": Checkpoints(every_steps=2, background=False)}, **options([5, 4, 3, 4, 1])
    )
    first.loop._events._commit.append(lambda: kill(first))
    with pytest.raises(RuntimeError):
        first.loop.run()
    names = sorted(path.name for path in first.directory.checkpoints.iterdir())
    assert names == ["best.pt", "best_step_000003.pt", "last.pt"]
    assert read_checkpoint(first.directory.best_checkpoint)["step"] == 5

    second = make_run(tmp_path, {"checkpoints": Checkpoints(every_steps=2)}, **options([4, 4]))
    assert (second.loop.step, second.loop.best.step) == (4, 3)
    second.loop.run()
    assert sorted(path.name for path in second.directory.checkpoints.iterdir()) == ["best.pt", "last.pt"]
    assert read_checkpoint(second.directory.best_checkpoint)["step"] == 3
