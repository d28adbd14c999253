"""Means with their spread, and the differences of pairs."""

import itertools
import math
import subprocess
import sys

import pytest

from reprise.tools.statistics import mean_interval, paired_difference, student_quantile


@pytest.mark.parametrize("degrees_of_freedom", [1, 2, 3, 4, 5, 9, 10, 29, 100, 999, 9999])
def test_quantiles_are_those_of_scipy(degrees_of_freedom: int) -> None:
    from scipy.stats import t

    assert student_quantile(degrees_of_freedom) == pytest.approx(t.ppf(0.975, degrees_of_freedom), rel=1e-9)


def test_quantiles_come_down_to_that_of_the_normal_distribution() -> None:
    quantiles = [student_quantile(n) for n in range(1, 60)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert student_quantile(100_000) == pytest.approx(1.959963984540054, abs=1e-4)


def test_interval_is_that_of_an_example_worked_by_hand() -> None:
    t = math.sqrt(2 * 0.95**2 / (1 - 0.95**2))  # with two degrees of freedom P(|T| < t) = t / sqrt(2 + t²)
    margin = pytest.approx(t / math.sqrt(3), rel=1e-12)
    result = mean_interval([1.0, 2.0, 3.0])
    assert (result.mean, result.std, result.num) == (2.0, 1.0, 3)
    assert result.low is not None
    assert result.high is not None
    assert (result.mean - result.low, result.high - result.mean) == (margin, margin)


def test_interval_is_that_of_scipy() -> None:
    import numpy as np
    from scipy.stats import sem, t

    for num in (2, 3, 10, 31):
        values = np.random.default_rng(num).normal(3, 2, num).tolist()
        low, high = t.interval(0.95, num - 1, float(np.mean(values)), sem(values))
        result = mean_interval(values)
        assert (result.mean, result.std) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
        assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_no_spread() -> None:
    assert mean_interval([0.25]) == (0.25, None, 1, None, None)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e300, -7e-320, 0.0])
def test_equal_values_have_no_deviation_and_their_own_mean(value: float) -> None:
    for num in (2, 3, 7):
        assert mean_interval([value] * num) == (value, 0.0, num, value, value)


def test_order_of_the_values_changes_no_bit() -> None:
    results = {mean_interval(list(order)) for order in itertools.permutations([0.1, 1e16, -1e16, 0.7])}
    assert len(results) == 1


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite numbers, at least one"):
        mean_interval(values)


def test_a_difference_of_pairs_is_second_minus_first() -> None:
    result = paired_difference([1.0, 10.0, 100.0], [2.0, 12.0, 103.0])
    assert result == mean_interval([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def test_importing_it_imports_neither_numpy_nor_torch() -> None:
    program = "import sys, reprise.tools.statistics; assert not {'numpy', 'scipy', 'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
