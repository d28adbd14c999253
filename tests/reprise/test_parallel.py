"""The number of processes does not change the result, and whatever happens to one of them, the run can carry on."""

import re
from pathlib import Path
from typing import Any

import pytest
from harness import differences
from shared_runs import Shared, config, killed, share, signalled, signalled_twice, spoiled
from torch import nn

from reprise.config import ExperimentConfig
from reprise.errors import Interrupted, ProcessLost
from reprise.files.json_file import read_object
from reprise.runs.building import Task
from reprise.runs.checkpoint import read_checkpoint
from reprise.training.processes import Processes

THREE: dict[str, Any] = {
    "training__num_microbatches": 3,
    "training__batch_size": 18,
    "model__hidden_size": 50,
    "model__has_unused": False,  # with a parameter that is never used, DDP keeps its buckets as they are
}
EARLY = {"early_stopping": {"_target_": "reprise.callbacks.early_stopping.EarlyStopping", "patience": 2}}


def all_done(*runs: Shared) -> list[str]:
    """Return what the processes said of runs that did not end well."""
    return [run.said for run in runs if any(run.codes)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Return the run of one process that is left alone."""
    run = share(1, config(tmp_path_factory.mktemp("whole")))
    assert all_done(run) == []
    return run


def test_one_process_and_two_end_with_the_same_bytes(whole: Shared, tmp_path: Path) -> None:
    two = share(2, config(tmp_path))
    assert all_done(two) == []
    assert differences(two.facts, whole.facts) == []
    assert "last.pt: model_state_dict" in two.facts
    assert len(two.facts["metrics.jsonl"]) == 15


@pytest.mark.parametrize("model", ["with batch norm", pytest.param("without", marks=pytest.mark.long)])
def test_four_processes_end_with_the_same_bytes_where_the_sum_is_ordered(tmp_path: Path, model: str) -> None:
    changes: dict[str, Any] = {"training__reduction": "ordered", "training__num_microbatches": 8}
    if model == "without":
        changes["model__has_norm"] = False
    runs = {num: share(num, config(tmp_path / str(num), **changes)) for num in (1, 2, 4)}
    assert all_done(*runs.values()) == []
    assert [differences(runs[1].facts, runs[num].facts) for num in (2, 4)] == [[], []]


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_layers_that_take_their_size_from_a_batch_begin_alike_in_all_processes(tmp_path: Path, parallel: str) -> None:
    model = {"_target_": "shared_runs.LazyLayers", "name": "layers", "dropout": 0.1}
    changes = {"model": model, "training__parallel": parallel, "training__max_steps": 3}
    one, two = (share(num, config(tmp_path / str(num), **changes)) for num in (1, 2))
    assert all_done(one, two) == []
    first, second = (read_object(shared.run.provenance)["model"] for shared in (one, two))
    assert first == second
    if parallel == "ddp":
        assert differences(one.facts, two.facts) == []


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.long)])
def test_a_checkpoint_is_the_same_file_whatever_the_number_of_processes(
    whole: Shared, tmp_path: Path, before: int, after: int
) -> None:
    """Killed between two checkpoints and carried on with another number: all bytes are those of the whole run."""
    first = share(before, config(tmp_path), killed(0, 10))
    assert first.codes[0] == -9
    assert read_checkpoint(first.run.last_checkpoint)["step"] == 8
    second = share(after, config(tmp_path))
    assert all_done(second) == []
    assert differences(second.facts, whole.facts) == []
    assert second.run.read_status()["attempts"][1]["from_step"] == 8


@pytest.mark.long
@pytest.mark.parametrize("event", [killed(0, 1), killed(2, 10)])
def test_three_processes_killed_and_carried_on_end_with_the_same_bytes(tmp_path: Path, event: Any) -> None:
    """DDP arranges its buckets anew after its first step, which three processes can tell and two cannot."""
    uninterrupted = share(3, config(tmp_path / "whole", **THREE))
    assert all_done(uninterrupted) == []
    cut = share(3, config(tmp_path / "cut", **THREE), event)
    assert cut.codes[event.rank] == -9
    assert all_done(share(3, config(tmp_path / "cut", **THREE))) == []
    assert differences(cut.facts, uninterrupted.facts) == []


@pytest.mark.long
def test_without_a_pass_that_counts_nothing_three_processes_carry_on_to_other_bits(tmp_path: Path) -> None:
    def prepare() -> None:
        train_once = Task.train_once

        def only_alone(task: Task, forward: nn.Module) -> None:
            if not isinstance(forward, nn.parallel.DistributedDataParallel):
                train_once(task, forward)

        Task.train_once = only_alone  # type: ignore[method-assign]

    uninterrupted = share(3, config(tmp_path / "whole", **THREE), prepare=prepare)
    cut = share(3, config(tmp_path / "cut", **THREE), killed(2, 10), prepare)
    assert all_done(uninterrupted, share(3, config(tmp_path / "cut", **THREE), prepare=prepare)) == []
    assert "last.pt: model_state_dict" in differences(cut.facts, uninterrupted.facts)


def test_a_process_that_dies_takes_the_others_with_it_at_once(whole: Shared, tmp_path: Path) -> None:
    dead = share(2, config(tmp_path), killed(1, 6))
    assert dead.codes == [1, -9]
    assert dead.seconds < 30
    assert "another process of this run is gone" in dead.said
    assert "Traceback" not in dead.said
    status = dead.run.read_status()
    assert (status["status"], status["attempts"][0]["to_step"]) == ("interrupted", 6)
    assert all_done(share(2, config(tmp_path))) == []
    assert differences(dead.facts, whole.facts) == []


def test_the_signal_that_torchrun_sends_after_a_death_does_not_hide_why_the_run_ended(tmp_path: Path) -> None:
    callbacks = {"signals": {"_target_": "shared_runs.SignalsAtTheEnd"}}
    dead = share(2, config(tmp_path, callbacks=callbacks), killed(1, 6))
    assert dead.codes == [1, -9]
    assert dead.said.count("another process of this run is gone") == 1
    assert dead.run.read_status()["attempts"][0]["status"] == "interrupted"


def test_a_signal_that_overtakes_the_news_of_a_death_is_about_the_death() -> None:
    stopped = Interrupted("by SIGTERM")
    stopped.__context__ = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    assert isinstance(Processes(0, 2).explained(stopped), ProcessLost)


def test_a_second_signal_is_the_first_one_again(tmp_path: Path) -> None:
    """torchrun passes on the signal that a scheduler sends to all of its processes."""
    stopped = share(2, config(tmp_path), signalled_twice(0, 6))
    assert stopped.codes[0] == 75
    assert "after step 7, saved. The same command carries on." in stopped.said
    assert read_checkpoint(stopped.run.last_checkpoint)["step"] == 7


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_signal_to_one_process_has_all_save_and_return(whole: Shared, tmp_path: Path, rank: int) -> None:
    stopped = share(2, config(tmp_path), signalled(rank, 9))
    assert stopped.codes[0] == 75
    assert "after step 10, saved. The same command carries on." in stopped.said
    assert read_checkpoint(stopped.run.last_checkpoint)["step"] == 10
    assert all_done(share(2, config(tmp_path))) == []
    assert differences(stopped.facts, whole.facts) == []


def test_a_loss_that_is_no_number_in_one_process_ends_all(tmp_path: Path) -> None:
    spoilt = share(2, config(tmp_path), spoiled(1, 7))
    assert spoilt.codes[0] == 1
    assert spoilt.seconds < 60
    assert spoilt.said.count("Error: training loss is nan at step 8, with learning rate ") == 1
    samples = re.findall(r"Error: .* the samples ([\d, ]+) of the training split", spoilt.said)
    assert [len(set(those.split(", "))) for those in samples] == [16]  # those of all processes
    assert spoilt.run.read_status()["status"] == "failed"


@pytest.mark.long
@pytest.mark.parametrize("changes", [{}, {"training__parallel": "fsdp"}])
def test_a_loss_that_is_no_number_in_one_process_has_all_skip_the_step(tmp_path: Path, changes: dict[str, Any]) -> None:
    skipping = share(
        2, config(tmp_path, training__on_nonfinite="skip", training__gradient_clip=None, **changes), spoiled(1, 7)
    )
    assert all_done(skipping) == []
    assert skipping.said.count("skipped: training loss is nan at step 8") == 1
    assert read_checkpoint(skipping.run.last_checkpoint)["loop_state"]["num_skipped"] == 1


@pytest.mark.long
def test_a_weight_that_is_no_number_in_one_part_ends_all(tmp_path: Path) -> None:
    callbacks = {"spoils": {"_target_": "shared_runs.SpoilsAPart", "step": 8}}
    spoilt = share(2, config(tmp_path, training__parallel="fsdp", training__gradient_clip=None, callbacks=callbacks))
    assert spoilt.codes[0] == 1
    assert spoilt.said.count("Error: a weight is nan at step 8") == 1
    assert read_checkpoint(spoilt.run.last_checkpoint)["step"] == 5


@pytest.mark.long
def test_who_ends_training_early_ends_it_in_all_processes(tmp_path: Path) -> None:
    """Early stopping acts in every process; another callback says so in the first one only."""
    stops = {"stops": {"_target_": "shared_runs.StopsAt", "step": 7}}
    for callbacks, step in ((EARLY, None), (stops, 7)):
        changes: dict[str, Any] = {"callbacks": callbacks, "training__learning_rate": 0.3}
        one, two = (share(num, config(tmp_path / f"{num} {step}", **changes)) for num in (1, 2))
        assert all_done(one, two) == []
        assert differences(one.facts, two.facts) == []
        reached = read_checkpoint(two.run.last_checkpoint)["step"]
        assert reached == step if step else reached < 15


@pytest.mark.long
def test_a_metric_that_does_not_say_what_it_keeps_is_exact_too(tmp_path: Path) -> None:
    changes = {"metrics": {"classification": {"_target_": "shared_runs.Unnamed"}}}
    one, two = (share(num, config(tmp_path / str(num), **changes)) for num in (1, 2))
    assert all_done(one, two) == []
    assert differences(one.facts, two.facts) == []


@pytest.mark.long
def test_a_sharded_run_carries_on_exactly_and_saves_whole_states(whole: Shared, tmp_path: Path) -> None:
    changes = {"training__parallel": "fsdp"}
    sharded = share(2, config(tmp_path / "whole", **changes))
    assert all_done(sharded) == []
    cut = share(2, config(tmp_path / "cut", **changes), killed(1, 10))
    assert all_done(share(2, config(tmp_path / "cut", **changes))) == []
    assert differences(cut.facts, sharded.facts) == []

    def shapes(run: Shared) -> Any:
        state = read_checkpoint(run.run.last_checkpoint)
        weights = {name: (tensor.shape, tensor.dtype) for name, tensor in state["model_state_dict"].items()}
        moments = state["optimizer_state_dict"]["state"]
        return weights, {i: {name: t.shape for name, t in of_one.items()} for i, of_one in moments.items()}

    assert shapes(sharded) == shapes(whole)
    one = share(1, config(tmp_path / "cut"), changes=("training.max_epochs=4", "training.parallel=ddp"))
    assert all_done(one) == []
    assert read_checkpoint(one.run.last_checkpoint)["step"] == 20


@pytest.mark.parametrize(
    ("num", "changes", "message"),
    [
        (
            2,
            {"training__num_microbatches": 1},
            "training.num_microbatches: expected a multiple of the 2 processes, got 1",
        ),
        (3, {"training__num_microbatches": None}, "expected a divisor of the 16 samples of a step"),
        (2, {"training__device": "cuda:1"}, "training.device: 'cuda:1' is one device"),
        (2, {"training__parallel": "fsdp", "training__precision": "fp16"}, "does not go with training.parallel 'fsdp'"),
        (2, {"data__num_samples": 0}, "data: the split 'train' is empty"),
    ],
)
def test_a_mistake_gets_one_message_and_leaves_nothing(
    tmp_path: Path, num: int, changes: dict[str, Any], message: str
) -> None:
    wrong = share(num, config(tmp_path, **changes))
    assert wrong.codes[0] == 2
    assert wrong.said.count(message) == 1
    assert wrong.said.count("Error: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["points.json"]
    assert wrong.seconds < 60


def test_microbatches_are_resolved_once_and_kept(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"training__num_microbatches": None, "training__gradient_accumulation": 3}
    started = share(2, config(tmp_path, **changes), signalled(0, 2))
    assert started.codes[0] == 75
    assert ExperimentConfig.load(started.run.config).training.num_microbatches == 6
    assert all_done(share(1, config(tmp_path, **changes))) == []
    refused = share(4, config(tmp_path / "other", training__num_microbatches=6))
    assert refused.codes[0] == 2
