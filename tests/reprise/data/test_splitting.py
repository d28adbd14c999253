import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reprise.data.splitting import split_rows, split_text
from reprise.errors import InputError


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


@pytest.mark.parametrize(("num_rows", "num_folds"), [(10, 5), (101, 4), (1797, 10), (7, 3)])
@pytest.mark.parametrize("is_stratified", [False, True])
def test_folds_are_disjoint_of_equal_size_and_together_all_rows(num_rows, num_folds, is_stratified):
    strata = np.arange(num_rows) % 3 if is_stratified else None
    folds = [
        split_rows(num_rows, 0.8, 0.2, seed=3, fold=fold, num_folds=num_folds, strata=strata)
        for fold in range(num_folds)
    ]
    tests = [rows["test"] for rows in folds]
    assert sorted(np.concatenate(tests).tolist()) == list(range(num_rows))
    assert max(map(len, tests)) - min(map(len, tests)) <= 1
    for rows in folds:
        assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(num_rows))
        assert len(rows["val"]) == round(num_rows * 0.2)


def test_a_fold_depends_on_seed_and_number_alone():
    first, second, other = (split_rows(60, 0.8, 0.1, seed, fold=1)["test"].tolist() for seed in (0, 0, 1))
    assert first == second
    assert sorted(first) != sorted(other)


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 9),
)
@settings(max_examples=200, deadline=None, derandomize=True)
@example(sizes=[1, 1, 1, 28], num_folds=3, seed=0)
@example(sizes=[1] * 40, num_folds=4, seed=0)
def test_every_fold_has_its_share_of_each_class(sizes, num_folds, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    assume(len(strata) >= 10 * num_folds)
    for fold in range(num_folds):
        for rows in split_rows(len(strata), 0.5, 0.2, seed, fold=fold, num_folds=num_folds, strata=strata).values():
            counts = np.bincount(strata[rows], minlength=len(sizes))
            assert (abs(counts - len(rows) * np.array(sizes) / len(strata)) < 2).all()


@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=12), part=st.floats(0.1, 0.9), seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_training_has_its_share_of_each_class_to_less_than_a_row(sizes, part, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    assume(len(strata) >= 10)
    rows = split_rows(len(strata), part, 1 - part, seed, strata=strata)["train"]
    counts = np.bincount(strata[rows], minlength=len(sizes))
    assert (abs(counts - len(rows) * np.array(sizes) / len(strata)) < 1).all()


def test_stratified_splits_hold_each_class_in_proportion_and_others_need_not():
    strata = ["rare"] * 20 + ["common"] * 180
    stratified, plain = (split_rows(200, 0.8, 0.1, 1, strata=given) for given in (strata, None))
    assert {name: sum(row < 20 for row in rows) for name, rows in stratified.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    assert sum(row < 20 for row in plain["test"]) != 2


def test_folds_of_a_text_are_contiguous_and_together_the_whole_text():
    text = "".join(map(chr, range(100, 203)))
    folds = [split_text(text, 0.8, 0.1, fold=fold, num_folds=4) for fold in range(4)]
    assert "".join(portions["test"] for portions in folds) == text
    for portions in folds:
        assert sorted("".join(portions.values())) == sorted(text)
        assert portions["val"] in text + text
        assert len(portions["val"]) == 10


def test_a_fold_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"data\.fold: expected 0 to 4 with data\.num_folds=5, got 5"):
        split_rows(100, 0.8, 0.1, 0, fold=5)
    with pytest.raises(InputError, match=r"data\.val_split, data\.num_folds: .* leave nothing for test"):
        split_rows(3, 0.8, 0.4, 0, fold=0, num_folds=5)
