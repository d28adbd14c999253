"""Nothing of a pass outside of training stays in a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_loop import NUM_FEATURES, Net, make_loop, make_split
from torch import Tensor, nn

from reprise.files.content_hash import content_hash
from reprise.models import ModelOutput, evaluating
from reprise.training.loop import Loop


class Keeping(Net):
    """A classifier that keeps something of every batch: `keep` does, in a buffer called `kept`."""

    kept: Tensor

    def __init__(self, keep: Callable[["Keeping", Tensor], object], kept: Tensor, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=persistent)
        self.keep = keep

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        self.keep(self, inputs)
        return super().forward(inputs, labels)


def replace(model: Keeping, inputs: Tensor) -> None:
    model.kept = model.kept + inputs.detach().mean()


def grow(model: Keeping, inputs: Tensor) -> None:
    model.kept = torch.arange(len(model.kept) + 1.0)


def replace_data(model: Keeping, inputs: Tensor) -> None:
    model.kept.data = torch.arange(len(model.kept) + 1.0)


WAYS: dict[str, tuple[Callable[[Keeping, Tensor], object], Tensor]] = {
    "in place": (lambda model, inputs: model.kept.add_(1), torch.zeros(3)),
    "in place, without dimensions": (lambda model, inputs: model.kept.add_(1), torch.tensor(0)),
    "in place, past autograd": (lambda model, inputs: model.kept.data.add_(1), torch.zeros(3)),
    "replaced": (replace, torch.zeros(3)),
    "grown": (grow, torch.zeros(3)),
    "grown in place": (lambda model, inputs: model.kept.resize_(len(model.kept) + 1).zero_(), torch.ones(3)),
    "grown past autograd": (replace_data, torch.zeros(3)),
    "expanded": (replace, torch.zeros(1).expand(3)),
    "expanded, in place": (lambda model, inputs: model.kept[:, 0].add_(1), torch.zeros(2, 1).expand(2, 3)),
    "a part of more": (lambda model, inputs: model.kept.add_(1), torch.zeros(9)[::3]),
    "not a number": (lambda model, inputs: model.kept.add_(1), torch.tensor([float("nan"), 1.0])),
    "sparse": (lambda model, inputs: model.kept.mul_(2), torch.eye(2).to_sparse()),
    "emptied": (lambda model, inputs: setattr(model, "kept", None), torch.ones(3)),
}


def copied(kept: Tensor) -> Tensor:
    """Return a copy that is as expanded as `kept` is."""
    if kept.layout is torch.strided and 0 in kept.stride():
        return kept[..., :1].clone().expand(kept.shape)
    return kept.clone()


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_buffer_is_what_it_was_and_the_same_tensor(way: str, persistent: bool) -> None:
    keep, kept = WAYS[way]
    kept = copied(kept)
    model = Keeping(keep, kept, persistent)
    before, place = content_hash(kept.to_dense().clone()), None if way == "sparse" else kept.data_ptr()
    with evaluating(model):
        for _ in range(2):
            model(**make_split(3).columns)
        assert model.kept is None or content_hash(model.kept.to_dense().clone()) != before
    assert dict(model.named_buffers())["kept"] is kept
    assert content_hash(kept.to_dense().clone()) == before
    assert ("kept" in model.state_dict()) is persistent
    if "grown" not in way and place is not None:
        assert kept.data_ptr() == place


def test_a_buffer_that_modules_share_stays_one() -> None:
    model = nn.ModuleList([Keeping(replace, torch.zeros(1)), Keeping(WAYS["in place"][0], torch.zeros(1))])
    model[1].kept = model[0].kept
    model[1].register_buffer("again", model[0].kept)
    with evaluating(model):
        for part in model:
            part(make_split(3).columns["inputs"])
    assert model[0].kept is model[1].kept is model[1].again
    assert float(model[0].kept) == 0


def test_a_table_that_is_made_in_the_block_stays() -> None:
    def keep(model: Keeping, inputs: Tensor) -> None:
        if not hasattr(model, "table"):
            model.register_buffer("table", torch.arange(3.0), persistent=False)

    model = Keeping(keep, torch.zeros(1))
    with evaluating(model):
        model(**make_split(3).columns)
    assert model.table.tolist() == [0, 1, 2]


_PASSES = 1500


class Extra(Net):
    """Counts in Python, and saves the count with its weights."""

    def __init__(self, counts: Any = None) -> None:
        super().__init__()
        self.counts = {_PASSES: 0} if counts is None else counts

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        self.counts[_PASSES] += 1
        return super().forward(inputs, labels)

    def get_extra_state(self) -> Any:
        return self.counts

    def set_extra_state(self, state: Any) -> None:
        self.counts = state


@pytest.mark.parametrize("counts", [{_PASSES: 0}, np.zeros(3000, dtype=int)], ids=["mapping", "array printed in part"])
def test_extra_state_is_what_it_was(counts: Any) -> None:
    model = Extra(counts)
    with evaluating(model):
        model(**make_split(3).columns)
        assert model.counts[_PASSES] == 1
    assert model.counts[_PASSES] == 0


def test_weights_that_a_layer_rescales_in_every_pass_are_what_they_were() -> None:
    layer = nn.Embedding(5, 3, max_norm=0.1)
    before = content_hash(layer.weight)
    with evaluating(layer):
        layer(torch.arange(5))
        assert content_hash(layer.weight) != before
    assert content_hash(layer.weight) == before


def test_modes_and_what_is_trained_are_what_they_were_however_the_block_ends() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    before = content_hash(model.state_dict())

    def interrupted() -> None:
        with evaluating(model):
            assert not model[0].training
            assert not torch.is_grad_enabled()
            model.train().requires_grad_(True)
            model(torch.ones(3, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [module.training for module in model] == [True, False, True]
    assert [parameter.requires_grad for parameter in model[0].parameters()] == [True, False]
    assert content_hash(model.state_dict()) == before
    assert torch.is_grad_enabled()


def test_batch_norm_that_counts_in_evaluation_too_is_what_it_was() -> None:
    class Adapting(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Adapting":
            super().train(True)
            return self

    model = nn.Sequential(Adapting(2))
    with evaluating(model):
        model(torch.randn(4, 2))
        assert int(model[0].num_batches_tracked) == 1
    assert int(model[0].num_batches_tracked) == 0
    assert model[0].running_mean.tolist() == [0, 0]


class Rotating(Net):
    """Makes a table at its first pass and multiplies by it in every one."""

    table: Tensor | None = None

    def factor(self, inputs: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.cos(torch.arange(NUM_FEATURES))
        return self.table

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        return super().forward(inputs * self.linear.weight.mean() * self.factor(inputs), labels)


class Growing(Rotating):
    """Makes its table, a buffer that is not saved, anew when a batch is larger than all before."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.ones(1, 1), persistent=False)

    def factor(self, inputs: Tensor) -> Tensor:
        if len(self.rows) < len(inputs):
            self.rows = torch.cos(torch.arange(len(inputs)))[:, None]
        return self.rows[: len(inputs)]


class Counting(Rotating):
    """Adds up what it has seen, out of place."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(())

    def factor(self, inputs: Tensor) -> Tensor:
        seen, self.seen = self.seen, self.seen + len(inputs)
        return seen


class CountingInBuffer(Counting):
    def __init__(self) -> None:
        super().__init__()
        del self.seen
        self.register_buffer("seen", torch.zeros(()))


@pytest.mark.parametrize("kind", [Rotating, Growing, Counting, CountingInBuffer])
def test_a_model_trains_with_what_it_made_in_an_evaluation(kind: Callable[[], Net]) -> None:
    loop = make_loop(model=kind(), eval_every_steps=1, batch_size=2)
    loop._evaluate()  # as a run does with one batch before its first step
    loop.run()
    assert loop.finished


@pytest.mark.parametrize("kind", [Growing, CountingInBuffer, Extra, *WAYS])
def test_cadence_of_evaluations_moves_no_bit(kind: Any) -> None:
    def trained(every: int | None) -> Loop:
        keep, kept = WAYS[kind] if isinstance(kind, str) else (None, torch.zeros(1))
        kept = copied(kept)
        torch.manual_seed(0)
        loop = make_loop(model=kind() if keep is None else Keeping(keep, kept), eval_every_steps=every)
        loop.run()
        return loop

    states = [trained(every).model.state_dict() for every in (None, 1)]
    for state in states:
        if isinstance(state.get("kept"), Tensor):
            state["kept"] = state["kept"].to_dense()
    assert content_hash(states[0]) == content_hash(states[1])


def test_a_table_made_in_a_step_that_is_left_out_is_no_obstacle() -> None:
    def keep(model: Keeping, inputs: Tensor) -> None:
        model.kept += 1
        if not hasattr(model, "table"):
            model.register_buffer("table", torch.arange(3.0))
            model.linear.bias.data.fill_(float("nan"))

    model = Keeping(keep, torch.zeros(()))
    loop = make_loop(model=model, on_nonfinite="skip", max_steps=1, scores=lambda: {"val/loss": 0.0})
    loop.run()
    assert loop.num_skipped == 1
    assert float(model.kept) == 0


class Frozen(nn.Dropout):
    """Stays in evaluation mode."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(False)
        return self


def modes_in_training(model: Net) -> list[bool]:
    """Return the mode of a model's dropout in each pass of training that has evaluations in between."""
    modes: list[bool] = []

    def note(module: nn.Module, inputs: Any) -> None:
        if torch.is_grad_enabled():
            modes.append(module.training)

    loop = make_loop(model=model, eval_every_steps=1)
    model.dropout.register_forward_pre_hook(note)
    loop.run()
    return modes


def test_a_part_that_is_kept_in_evaluation_mode_stays_there_over_evaluations() -> None:
    model = Net(0.5)
    model.dropout = Frozen(0.5)
    model.train()
    assert modes_in_training(model) == [False] * 6

    frozen = Net(0.5)
    frozen.dropout.eval()  # as a callback does when training starts
    assert modes_in_training(frozen) == [False] * 6
    assert modes_in_training(Net(0.5)) == [True] * 6
