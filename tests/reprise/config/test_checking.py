from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from reprise.config import Fraction, NonNegativeInt, PositiveFloat, PositiveInt, Probability, Range
from reprise.config.checking import conform, describe
from reprise.errors import Problem


def check(value: Any, annotation: Any) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    result = conform(value, annotation, "key", problems)
    return result, [f"{problem.key}: {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, PositiveInt),
        (0, NonNegativeInt),
        (1, Fraction),
        (0, Probability),
        (None, PositiveInt | None),
        ("fp32", Literal["fp32", "bf16"]),
        (True, bool | Literal["strict"]),
        ("strict", bool | Literal["strict"]),
        ([1, 2], list[int]),
        ({"a": 1}, dict[str, int]),
        ("text", str | None),
        (object, Any),
    ],
)
def test_values_that_fit_pass_unchanged(value: Any, annotation: Any) -> None:
    assert check(value, annotation) == (value, [])


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (0, PositiveInt, "expected an integer ≥ 1, got 0"),
        (1.0, PositiveInt, "expected an integer ≥ 1, got 1.0"),
        (True, PositiveInt, "expected an integer ≥ 1, got true"),
        ("3", PositiveInt, "expected an integer ≥ 1, got '3'"),
        (None, PositiveInt, "expected an integer ≥ 1, got null"),
        (0, PositiveInt | None, "expected an integer ≥ 1 or null, got 0"),
        (0.0, PositiveFloat, "expected a number > 0, got 0.0"),
        (True, PositiveFloat, "expected a number > 0, got true"),
        (float("nan"), PositiveFloat, "expected a number > 0, got nan, which is not finite"),
        (float("inf"), PositiveFloat, "expected a number > 0, got inf, which is not finite"),
        (1, Probability, "expected a number ≥ 0 and < 1, got 1"),
        (1.5, Fraction, "expected a number ≥ 0 and ≤ 1, got 1.5"),
        ("fp8", Literal["fp32", "bf16"], "expected 'fp32' or 'bf16', got 'fp8'"),
        (1, Literal[True], "expected True, got 1"),
        (1, bool, "expected true or false, got 1"),
        ("yes", bool, "expected true or false, got 'yes'"),
        ("a", list[str], "expected a list of which each is a text, got 'a'"),
        ([1], tuple[float, float], "expected a list of which each is a number, got [1]"),
        ([1], dict[str, int], "expected a mapping, got [1]"),
    ],
)
def test_a_problem_says_what_was_expected_and_what_was_given(value: Any, annotation: Any, message: str) -> None:
    assert check(value, annotation)[1] == [f"key: {message}"]


def test_a_number_where_a_text_is_wanted_comes_with_the_way_to_quote_it() -> None:
    advice = "a text needs quotes here: '7' in a file, \"key='7'\" on the command line"
    assert check(7, str | None)[1] == [f"key: expected a text or null, got 7; {advice}"]


def test_large_bounds_are_written_out() -> None:
    assert describe(Annotated[int, Range(min=0, max=2**32 - 1)]) == "an integer ≥ 0 and ≤ 4294967295"
    assert describe(Annotated[float, Range(above=0.05, below=1)]) == "a number > 0.05 and < 1"


def test_an_integer_becomes_the_float_that_is_wanted() -> None:
    value, problems = check([1, {"a": 2}], tuple[float, dict[str, float]])
    assert (value, problems) == ((1.0, {"a": 2.0}), [])
    assert type(value[0]) is type(value[1]["a"]) is float


def test_an_annotation_that_is_not_known_lets_everything_pass() -> None:
    assert check("anything", complex) == ("anything", [])
    assert check(3, "SomeName") == (3, [])


@dataclass(frozen=True)
class Inner:
    size: PositiveInt
    rate: float = 0.5
    target: str = field(default="a.b", metadata={"key": "_target_"})


@dataclass(frozen=True)
class Outer:
    inner: Inner
    names: list[str] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict, metadata={"key": "*"})


def test_a_mapping_becomes_the_dataclass_and_other_keys_go_where_the_schema_collects_them() -> None:
    value, problems = check({"inner": {"size": 3, "rate": 1, "_target_": "c.d"}, "more": 1}, Outer)
    assert (value, problems) == (Outer(Inner(3, 1.0, "c.d"), [], {"more": 1}), [])


def test_nested_problems_are_all_found_with_their_keys() -> None:
    values = {"inner": {"rate": "fast", "_target_": 1, "sise": 3}, "names": ["a", 2, None]}
    quotes = "a text needs quotes here: '{0}' in a file, \"{1}='{0}'\" on the command line"
    assert check(values, Outer)[1] == [
        "key.inner.size: missing: expected an integer ≥ 1",
        "key.inner.rate: expected a number, got 'fast'",
        "key.inner._target_: expected a text, got 1; " + quotes.format(1, "key.inner._target_"),
        "key.inner.sise: unknown; did you mean `key.inner.size`?",
        "key.names[1]: expected a text, got 2; " + quotes.format(2, "key.names[1]"),
        "key.names[2]: expected a text, got null",
    ]


def test_three_question_marks_are_a_missing_value() -> None:
    assert check({"inner": {"size": "???"}}, Outer)[1] == [
        "key.inner.size: missing: expected an integer ≥ 1; set it in a config file or as key.inner.size=…"
    ]


def test_an_unknown_key_that_resembles_none_comes_with_those_there_are() -> None:
    assert check({"inner": {"size": 1, "xyz": 1}}, Outer)[1] == [
        "key.inner.xyz: unknown; known here: _target_, rate, size"
    ]
