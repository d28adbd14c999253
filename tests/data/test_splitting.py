import numpy as np
import pytest

from reprise.config import InputError
from reprise.data.splitting import split_rows


@pytest.mark.parametrize("num_rows", [10, 100, 101, 1797])
@pytest.mark.parametrize(("train", "val"), [(0.8, 0.1), (0.5, 0.25), (0.1, 0.1), (1 / 3, 1 / 3), (0.7, 0.2)])
def test_splits_are_disjoint_and_together_all_rows(num_rows, train, val):
    rows = split_rows(num_rows, train, val, seed=0)
    assert list(rows) == ["train", "val", "test"]
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(num_rows))
    for name, fraction in (("train", train), ("val", val), ("test", 1 - train - val)):
        assert abs(len(rows[name]) - fraction * num_rows) <= 1


def test_a_split_depends_on_the_seed_alone():
    first, second, other = (split_rows(50, 0.8, 0.1, seed) for seed in (0, 0, 1))
    assert all((first[name] == second[name]).all() for name in first)
    assert sorted(first["test"]) != sorted(other["test"])


@pytest.mark.parametrize(("train", "val"), [(0.8, 0.2), (0.7, 0.3), (0.9, 0.1), (0.6, 0.4), (1 / 3, 2 / 3)])
def test_fractions_that_add_up_to_one_leave_no_test_split(train, val):
    for num_rows in (7, 10, 33):
        rows = split_rows(num_rows, train, val, seed=0)
        assert list(rows) == ["train", "val"]
        assert len(rows["train"]) + len(rows["val"]) == num_rows


@pytest.mark.parametrize(
    ("num_rows", "train", "val", "empty"),
    [(10, 1.0, 0.0, "val"), (10, 0.8, 0.0, "val"), (3, 0.1, 0.5, "train"), (4, 0.5, 0.4, "test"), (2, 0.8, 0.1, "val")],
)
def test_a_split_that_was_asked_for_and_would_be_empty_is_refused(num_rows, train, val, empty):
    with pytest.raises(InputError, match=rf"of {num_rows} rows leave nothing for .*{empty}"):
        split_rows(num_rows, train, val, seed=0)


def test_fractions_above_one_are_refused():
    with pytest.raises(InputError, match=r"expected at most 1, got 0\.8 \+ 0\.3"):
        split_rows(100, 0.8, 0.3, seed=0)
