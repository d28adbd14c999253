import copy
import dataclasses
import enum
import os
import pathlib
import random
import re
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from reprise import load_checkpoint, save_checkpoint, set_seed
from reprise.config import ExperimentConfig
from reprise.errors import CheckpointError
from reprise.files.content_hash import content_hash
from reprise.optimization.schedules import CosineSchedule
from reprise.runs.checkpoint import plain, read_checkpoint

CONTRACT = {
    *("epoch step model_state_dict optimizer_state_dict scheduler_state_dict metrics config").split(),
    *("torch_rng_state numpy_rng_state python_rng_state").split(),
}


def parts(seed=0):
    """Return a model with buffers and shared weights, its optimizer after two steps, and a schedule."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = CosineSchedule(optimizer, warmup_steps=1, total_steps=5)
    for _ in range(2):
        train_one_step(model, optimizer, scheduler)
    return model, optimizer, scheduler


def train_one_step(model, optimizer, scheduler):
    optimizer.zero_grad()
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    scheduler.step()


def save(path, model, optimizer=None, scheduler=None, metrics=None, config=None, **extra):
    save_checkpoint(model, optimizer, scheduler, 2, 5, metrics or {"val/loss": 0.5}, config or {}, path, extra or None)
    return path


def content(state):
    return content_hash({key: value for key, value in state.items() if key != "sha256"})


def test_a_checkpoint_has_the_keys_of_the_contract(tmp_path):
    path = save(tmp_path / "last.pt", *parts(), config=ExperimentConfig(seed=7))
    state = torch.load(path, weights_only=True)
    cuda = {"cuda_rng_state"} if torch.cuda.is_available() else set()
    assert set(state) == CONTRACT | cuda | {"sha256"}
    assert (state["epoch"], state["step"], state["metrics"]) == (2, 5, {"val/loss": 0.5})
    assert state["config"] == ExperimentConfig(seed=7).to_dict()


def test_what_exact_resume_needs_beyond_stands_under_keys_of_its_own(tmp_path):
    path = save(tmp_path / "last.pt", nn.Linear(1, 1), loop_state={"best": None})
    assert read_checkpoint(path)["loop_state"] == {"best": None}


def test_everything_comes_back_and_training_carries_on_to_the_same_bits(tmp_path):
    model, optimizer, scheduler = parts()
    path = save(tmp_path / "last.pt", model, optimizer, scheduler)
    for _ in range(3):
        train_one_step(model, optimizer, scheduler)

    others = parts(seed=1)
    load_checkpoint(path, *others)
    for _ in range(3):
        train_one_step(*others)
    for mine, theirs in zip((model, optimizer, scheduler), others, strict=True):
        assert content_hash(plain(mine.state_dict(), "")) == content_hash(plain(theirs.state_dict(), ""))


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_loading_restores_the_global_random_states_unless_told_to_leave_them(tmp_path):
    model, optimizer, scheduler = parts()
    set_seed(3)
    path = save(tmp_path / "last.pt", model, optimizer, scheduler)
    then = draws()
    set_seed(5)
    now = draws()
    assert now != then
    set_seed(5)
    load_checkpoint(path, model, optimizer, scheduler, restore_rng=False)
    assert draws() == now
    load_checkpoint(path, model)
    assert draws() == then


def test_loading_what_does_not_fit_leaves_the_global_random_states_alone(tmp_path):
    path, other = save(tmp_path / "last.pt", *parts()), nn.Linear(1, 1)
    set_seed(5)
    now = draws()
    set_seed(5)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, other)
    assert draws() == now


def test_saving_changes_nothing(tmp_path):
    model, optimizer, scheduler = parts()
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    set_seed(5)
    save(tmp_path / "last.pt", model, optimizer, scheduler)
    after = torch.rand(3)
    set_seed(5)
    assert torch.equal(torch.rand(3), after)
    assert content_hash(before) == content_hash([model.state_dict(), optimizer.state_dict()])
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD,
        lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, lr=0.1),
        lambda p: torch.optim.AdamW(p, fused=True),
        lambda p: torch.optim.AdamW(p, amsgrad=True),
        torch.optim.Adagrad,
        torch.optim.RMSprop,
        torch.optim.Adafactor,
        lambda p: torch.optim.LBFGS(p),
    ],
)
def test_the_state_of_every_optimizer_goes_through(tmp_path, optimizer):
    model = nn.Linear(3, 3)
    built = optimizer(model.parameters())

    def closure():
        loss = model(torch.ones(2, 3)).sum()
        loss.backward()
        return loss

    built.step(closure)
    path = save(tmp_path / "last.pt", model, built)
    other = optimizer(model.parameters())
    load_checkpoint(path, model, other)
    assert content_hash(plain(other.state_dict(), "")) == content_hash(plain(built.state_dict(), ""))


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 3]),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (step + 1)),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o, [torch.optim.lr_scheduler.LinearLR(o), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)], [2]
        ),
    ],
)
def test_the_state_of_every_scheduler_goes_through(tmp_path, scheduler):
    def built():
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, scheduler(optimizer)

    def rates(optimizer, schedule, num_steps):
        seen = []
        for _ in range(num_steps):
            optimizer.step()
            schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    model, optimizer, schedule = built()
    rates(optimizer, schedule, 2)
    path = save(tmp_path / "last.pt", model, optimizer, schedule)
    expected = rates(optimizer, schedule, 2)
    other_model, other_optimizer, other_schedule = built()
    load_checkpoint(path, other_model, other_optimizer, other_schedule)
    assert rates(other_optimizer, other_schedule, 2) == expected


def test_numpy_scalars_and_arrays_are_stored_plainly(tmp_path):
    metrics = {"val/loss": np.float64(0.1), "val/accuracy": np.mean([0.5, 1.0]), np.str_("n"): np.int64(3)}
    config = {"flag": np.bool_(True), "weights": np.arange(3.0), "sizes": (np.int32(1), [np.float32(0.5)])}
    state = read_checkpoint(save(tmp_path / "last.pt", nn.Linear(1, 1), metrics=metrics, config=config))
    assert state["metrics"] == {"val/loss": 0.1, "val/accuracy": 0.75, "n": 3}
    assert [type(value) for value in state["metrics"].values()] == [float, float, int]
    assert {type(key) for key in state["metrics"]} == {str}
    assert state["config"]["flag"] is True
    assert torch.equal(state["config"]["weights"], torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    assert state["config"]["sizes"] == (1, [0.5])
    assert type(state["config"]["sizes"][0]) is int


class Colour(enum.StrEnum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    name: str


def test_plain_makes_subclasses_of_plain_types_plain():
    made = plain({"colour": Colour.RED, "point": Point(1, "a"), "shape": torch.Size([2, 3]), "bytes": b"\0"}, "")
    assert made == {"colour": "red", "point": {"x": 1, "name": "a"}, "shape": (2, 3), "bytes": b"\0"}
    assert type(made["colour"]) is str
    assert type(made["shape"]) is tuple
    assert type(plain(nn.Parameter(torch.ones(1)), "")) is torch.Tensor


@pytest.mark.parametrize("value", [{1, 2}, pathlib.Path("a"), object(), torch.float32, len, np.array([object()])])
def test_what_would_not_load_safely_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(TypeError, match=r"callback_states\.mine\.values\[1\]|can't convert np.ndarray"):
        save(tmp_path / "last.pt", nn.Linear(1, 1), callback_states={"mine": {"values": [1, value]}})
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_byte_is_detected_or_changes_nothing(tmp_path):
    """Flips one byte in a hundred and all of the parts that make a zip file; every byte was tried once by hand."""
    model = nn.Linear(3, 2)
    path = save(tmp_path / "last.pt", model)
    good = content(read_checkpoint(path))
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.pt"
    num_detected, num_missed = 0, 0
    for position in {*range(0, len(whole), 101), *range(400), *range(len(whole) - 120, len(whole))}:
        damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            missed = content(read_checkpoint(damaged)) == good
        except CheckpointError:
            num_detected += 1
        else:
            assert missed, position
            num_missed += 1
    assert num_detected > num_missed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_a_flipped_byte_inside_a_tensor_is_detected(tmp_path, dtype):
    path = tmp_path / "last.pt"
    save(path, nn.Linear(1, 1), tensors={"marked": torch.ones(1000).to(dtype)})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size if "data/" in info.filename else 0)
        stored = archive.read(largest)
    position = whole.index(stored) + len(stored) // 2
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_checkpoint_that_was_cut_short_is_detected(tmp_path):
    path = save(tmp_path / "last.pt", nn.Linear(3, 2))
    whole = path.read_bytes()
    for length in [0, 1, 2, 100, *range(500, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"sha256": Harmful()}, "last.pt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError, match="damaged, or is no checkpoint"):
        read_checkpoint("last.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("value", [{"model_state_dict": {}}, [1], torch.ones(2)])
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of this project"):
        read_checkpoint(tmp_path / "weights.pt")


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = save(tmp_path / "last.pt", nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match=re.escape(f"{path} does not fit the model: ")):
        load_checkpoint(path, nn.Linear(4, 2))


def test_a_state_that_was_not_saved_cannot_be_loaded(tmp_path):
    model, optimizer, scheduler = parts()
    path = save(tmp_path / "last.pt", model)
    with pytest.raises(CheckpointError, match="holds no state of the optimizer"):
        load_checkpoint(path, model, optimizer)
    with pytest.raises(CheckpointError, match="holds no state of the scheduler"):
        load_checkpoint(path, model, None, scheduler)


def test_a_save_that_fails_leaves_the_last_checkpoint(tmp_path):
    path = save(tmp_path / "last.pt", nn.Linear(1, 1))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save(path, nn.Linear(1, 1), metrics={"a": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_is_of_content_and_counts_everything():
    values = [
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"a": b"1"},
        {"a": None},
        [1, 2],
        (1, 2),
        [[1], 2],
        0.0,
        -0.0,
        float("nan"),
        torch.zeros(2),
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(0),
        torch.tensor([0.0, -0.0]),
        "",
        {},
    ]
    hashes = [content_hash(value) for value in values]
    assert len(set(hashes)) == len(values)
    assert hashes == [content_hash(copy.deepcopy(value)) for value in values]


def test_the_hash_of_a_tensor_does_not_depend_on_how_it_lies_in_memory():
    tensor = torch.arange(12.0).reshape(3, 4)
    assert content_hash(tensor) == content_hash(tensor.t().contiguous().t()) == content_hash(nn.Parameter(tensor))
    assert content_hash(tensor) != content_hash(tensor.t())
    assert content_hash(tensor[:2]) == content_hash(tensor[:2].clone())
    assert content_hash(tensor[0, 0]) == content_hash(torch.tensor(0.0))
