import random

import numpy as np
import pytest
import torch

from reprise.data import TensorSplit, stack
from reprise.files.content_hash import content_hash
from reprise.randomness import set_seed
from reprise.training import loading
from reprise.training.loading import Batches

NUM_SAMPLES, BATCH_SIZE = 10, 4


class FromGlobals:
    """Draws from every global generator, as augmentations do that were written elsewhere."""

    def __len__(self):
        return NUM_SAMPLES

    def __getitem__(self, index):
        if index >= NUM_SAMPLES:
            raise IndexError
        for _ in range(index % 3):
            random.random()  # how many draws a sample takes is its own affair
        drawn = [
            index,
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),
            np.random.normal(),
            torch.rand(()).item(),
        ]
        return {"values": torch.tensor(drawn, dtype=torch.float64)}


class FromDraws:
    """Draws from the generator that it is given, and holds no samples by index alone."""

    def __len__(self):
        return NUM_SAMPLES

    def get_sample(self, index, draws):
        assert index < NUM_SAMPLES
        draws.random(index % 3)
        return {"values": torch.from_numpy(np.array([index, *draws.normal(size=3), draws.integers(2**40)]))}


def add_noise(batch, draws):
    return {**batch, "values": batch["values"] + torch.from_numpy(draws.uniform(3)), "noise": batch["index"] * 0}


def whole_batches():
    return TensorSplit({"index": torch.arange(NUM_SAMPLES), "values": torch.zeros(NUM_SAMPLES, 3)}, augment=add_noise)


KINDS = [FromGlobals, FromDraws, whole_batches]


@pytest.fixture(params=["held", "computed"])
def order_is(request, monkeypatch):
    if request.param == "computed":
        monkeypatch.setattr(loading, "MOST_HELD", NUM_SAMPLES - 1)


def batches(kind=FromGlobals, **options):
    defaults = {"batch_size": BATCH_SIZE, "seed": 1, "purpose": "train", "shuffle": True}
    return Batches(kind(), stack, **(defaults | options))


def take(stream, num):
    taken = [next(stream) for _ in range(num)]
    stream.close()
    return taken


def hashes(sequence):
    return [content_hash(batch) for batch in sequence]


@pytest.mark.usefixtures("order_is")
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_does_not_depend_on_the_number_of_workers(kind):
    expected = hashes(take(batches(kind).stream(), 7))
    assert len(set(expected)) == 7
    for num_workers, first in ((2, 0), (1, 2)):
        assert hashes(take(batches(kind, num_workers=num_workers).stream(first), 7 - first)) == expected[first:]


def test_scoring_with_workers_brings_every_sample_once_in_order():
    expected = list(batches(shuffle=False))
    assert hashes(batches(shuffle=False, num_workers=2)) == hashes(expected)
    assert [row[0] for batch in expected for row in batch["values"].tolist()] == list(range(NUM_SAMPLES))
    assert [len(batch["values"]) for batch in expected] == [4, 4, 2]


@pytest.mark.usefixtures("order_is")
@pytest.mark.parametrize("num_at_once", [1, 8, 2**13])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_from_any_position_is_the_tail_of_the_whole(kind, num_at_once, monkeypatch):
    expected = hashes(take(batches(kind).stream(), 8))
    monkeypatch.setattr(loading, "_INDICES_AT_ONCE", num_at_once)
    for first in range(8):
        assert hashes(take(batches(kind).stream(first), 8 - first)) == expected[first:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_does_not_depend_on_what_others_draw_from_the_global_generators(kind):
    expected = hashes(take(batches(kind).stream(), 4))
    found = []
    stream = batches(kind).stream()
    for step in range(4):
        set_seed(step)
        found.append(content_hash(next(stream)))
        torch.rand(step)
        np.random.rand(step + 1)
        random.random()
    assert found == expected


def test_what_a_sample_draws_does_not_depend_on_the_batch_it_is_in():
    def by_index(sequence):
        return {int(row[0]): row.tolist() for batch in sequence for row in batch["values"]}

    expected = by_index(batches(batch_size=1))
    assert all(by_index(batches(batch_size=size)) == expected for size in (3, 10, 64))
    assert by_index(batches(shuffle=False)) == expected


def test_batches_of_whole_tensors_draw_for_each_sample_by_its_index():
    def by_index(sequence):
        return {
            i: row
            for batch in sequence
            for i, row in zip(batch["index"].tolist(), batch["values"].tolist(), strict=True)
        }

    expected = by_index(batches(whole_batches, batch_size=1))
    assert len({tuple(row) for row in expected.values()}) == NUM_SAMPLES
    assert by_index(batches(whole_batches, batch_size=7)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_seeds_and_purposes_draw_differently(kind):
    def drawn(purpose, seed, first):
        made = batches(kind, purpose=purpose, seed=seed, shuffle=False)
        return [v for batch in take(made.stream(first), 3) for v in batch["values"][:, 1:].flatten().tolist()]

    everything = [drawn(purpose, seed, 3 * epoch) for purpose in "ab" for seed in (0, 1) for epoch in range(3)]
    values = [value for part in everything for value in part]
    assert len(set(values)) == len(values)


@pytest.mark.usefixtures("order_is")
def test_an_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    made = [batches(seed=seed, purpose=p).order(epoch) for seed in (0, 1) for epoch in (0, 1) for p in "ab"]
    orders = [order[:].tolist() for order in made]
    assert all(sorted(order) == list(range(NUM_SAMPLES)) for order in orders)
    assert orders[0::2] == orders[1::2]
    assert len({tuple(order) for order in orders}) == 4
    assert batches(shuffle=False).order(5)[:].tolist() == list(range(NUM_SAMPLES))


def test_every_place_of_an_order_is_equally_likely():
    counts = np.zeros((NUM_SAMPLES, NUM_SAMPLES))
    num_epochs = 2_000
    made = batches()
    for epoch in range(num_epochs):
        counts[np.arange(NUM_SAMPLES), made.order(epoch)] += 1
    expected = num_epochs / NUM_SAMPLES
    assert ((counts - expected) ** 2 / expected).sum() < 134  # chi-squared, 81 degrees of freedom: 99.98 %


def test_the_number_of_batches_counts_the_last_smaller_one():
    assert [len(batches(batch_size=size)) for size in (1, 3, 4, 5, 10, 11)] == [10, 4, 3, 2, 1, 1]


def test_a_resumed_stream_loads_nothing_to_throw_it_away():
    asked = []

    class Counting(FromGlobals):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    made = batches(Counting)
    take(made.stream(302), 1)  # the last batch of epoch 100
    assert asked == made.order(100)[8:].tolist()
