"""Scalars of any kind are taken from users' code, and one that is not finite ends a run only where it is monitored."""

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_loop import Net, Regression, make_loop, make_split, score, validate, weights_hash
from torch import Tensor

from reprise.data import TensorSplit
from reprise.errors import Failure, InputError
from reprise.metrics import Metric
from reprise.models import ModelOutput

VALUES: dict[str, Any] = {
    "shape_1": torch.tensor([0.5]),
    "shape_0": torch.tensor(0.25, requires_grad=True),
    "int_tensor": torch.tensor(3),
    "bool_tensor": torch.tensor(True),
    "float32": np.float32(0.5),
    "float64": np.float64(0.1),
    "int64": np.int64(7),
    "np_bool": np.bool_(True),
    "array": np.array([[2.5]]),
    "int": 4,
    "bool": False,
}


class Kinds(Metric):
    """Returns scalars of every kind."""

    names = ("kinds",)

    def __init__(self, **values: Any) -> None:
        self._values = values or VALUES

    def reset(self) -> None:
        pass

    def update(self, outputs: Any, batch: Any, num_items: int) -> None:
        pass

    def compute(self) -> dict[str, float]:
        return dict(self._values)


EXPECTED = {
    "shape_1": 0.5,
    "shape_0": 0.25,
    "int_tensor": 3,
    "bool_tensor": 1.0,
    "float32": 0.5,
    "float64": 0.1,
    "int64": 7,
    "np_bool": 1.0,
    "array": 2.5,
    "int": 4,
    "bool": 0.0,
}


def test_metrics_may_be_scalars_of_any_kind() -> None:
    scores = score(Net(), make_split(7, "val"), metrics={"kinds": Kinds()})
    assert {name.removeprefix("val/"): value for name, value in scores.items() if name != "val/loss"} == EXPECTED
    assert {type(value) for value in scores.values()} == {int, float}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.zeros(3), r"a tensor of shape \(3,\)"),
        (np.zeros((2, 2)), r"an array of shape \(2, 2\)"),
        ("0.5", r"'0\.5' \(str\)"),
        (None, r"None \(NoneType\)"),
        (1j, r"1j \(complex\)"),
        (torch.tensor(1j), r"a tensor of shape \(\)"),
    ],
)
def test_what_is_no_scalar_is_one_message_that_names_the_class(value: Any, shown: str) -> None:
    with pytest.raises(InputError, match=rf"'odd', from Kinds\.compute: expected one number, got {shown}"):
        score(Net(), make_split(7, "val"), metrics={"kinds": Kinds(odd=value)})
    loop = make_loop()

    class Logging:
        def on_step_end(self) -> None:
            loop.log({"odd": value})

    with pytest.raises(
        InputError, match=rf"'odd', which .*Logging\.on_step_end logs: expected one number, got {shown}"
    ):
        Logging().on_step_end()


def test_what_callbacks_log_may_be_scalars_of_any_kind() -> None:
    loop = make_loop(max_epochs=1)
    lines: list[dict[str, Any]] = []
    loop._events.step_end = lambda: loop.log(VALUES)
    loop._events.commit = lambda: lines.append(dict(loop.logged))
    loop.run()
    assert {name: float(lines[0][name]) for name in EXPECTED} == EXPECTED
    assert {value.shape for value in lines[0].values() if isinstance(value, Tensor)} == {()}
    assert not any(isinstance(value, Tensor) and value.requires_grad for value in lines[0].values())


@pytest.mark.parametrize("gradient_accumulation", [1, 2])
@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_loss_may_have_dimensions_of_one(shape: tuple[int, ...], gradient_accumulation: int) -> None:
    def trained(loss_shape: tuple[int, ...]) -> Any:
        torch.manual_seed(0)
        model = Regression(loss_shape)
        split = TensorSplit({"inputs": make_split(10).columns["inputs"], "labels": torch.linspace(-1, 1, 10)})
        loop = make_loop(
            model=model,
            split=split,
            gradient_accumulation=gradient_accumulation,
            gradient_clip=1.0,
            scores=lambda: score(model, split, metrics={}),
        )
        loop.run()
        return weights_hash(loop), loop.metrics

    assert trained(shape) == trained(())


@pytest.mark.parametrize("loss", [None, torch.zeros(3), "low"])
def test_a_loss_that_is_no_scalar_names_the_model(loss: Any) -> None:
    class Odd(Net):
        def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
            return ModelOutput(super().forward(inputs).logits, loss)

    message = r"model: the loss that Odd\.forward returns, .*: expected one number, got"
    with pytest.raises(InputError, match=message):
        score(Odd(), make_split(7, "val"), metrics={})


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan), np.float32(-math.inf)])
def test_a_metric_that_is_not_finite_ends_no_run_unless_it_is_monitored(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def loop_of(**options: Any) -> Any:
        loop = make_loop(max_epochs=1, scores=lambda: validate(loop.model) | {"val/odd": float(value)}, **options)
        return loop

    loop = loop_of()
    loop.run()
    assert loop.finished
    assert "val/odd" not in loop.metrics
    assert "val/loss" in loop.metrics
    left_out = [record for record in caplog.records if "val/odd" in record.getMessage()]
    assert [record.levelno for record in left_out] == [logging.WARNING]
    assert f"val/odd is {float(value)} at step 3 and left out" in left_out[0].getMessage()
    with pytest.raises(Failure, match=r"val/odd is .* at step 3"):
        loop_of(monitor="val/odd").run()
