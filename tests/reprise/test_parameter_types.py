"""Parameters have any type that torch's own optimizers take, alone or several in one model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import completed, failing, resumed, stopped
from torch import Tensor, nn

from reprise.files.content_hash import content_hash
from reprise.files.json_file import read_object
from reprise.optimization.optimizers import SGD, AdamW
from reprise.runs.checkpoint import read_checkpoint
from reprise.training.step import clip_gradients

Kind = Callable[..., torch.optim.Optimizer]
Clip = Callable[[list[nn.Parameter], torch.optim.Optimizer], object]

SHAPES = ((5, 3), (7,), (2, 3, 3), ())
BFLOAT16, HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float16, torch.float32, torch.float64
TYPES = [
    *((kind,) for kind in (BFLOAT16, HALF, SINGLE, DOUBLE, torch.complex64, torch.complex128)),
    *((SINGLE, other) for other in (BFLOAT16, DOUBLE, torch.complex64)),
    (torch.complex64, BFLOAT16),
]
OPTIONS: dict[tuple[Kind, Kind], list[dict[str, Any]]] = {
    (AdamW, torch.optim.AdamW): [{"fused": True}, {"foreach": True}, {}, {"fused": True, "amsgrad": True}],
    (SGD, torch.optim.SGD): [{"fused": True, "momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {}],
}
PAIRS = [(ours, theirs, options) for (ours, theirs), several in OPTIONS.items() for options in several]
MOST = 0.5


def divide(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Clip as the documents say, one gradient after the other; of several types torch does it."""
    if len({parameter.dtype for parameter in parameters}) > 1:
        nn.utils.clip_grad_norm_(parameters, MOST)
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    assert norm > MOST
    for gradient in gradients:
        gradient /= norm / MOST


def clip(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    clip_gradients(parameters, MOST, getattr(optimizer, "divide_gradients", None))


def drawn(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, dtype=wide, generator=generator).to(dtype)


def states(kind: Kind, types: tuple[torch.dtype, ...], clip: Clip | None, **options: Any) -> list[str]:
    """Return the hash of parameters and state after each of some steps; after the third the state is loaded again."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(drawn(shape, dtype, generator)) for dtype in types for shape in SHAPES]
    groups = [{"params": parameters[::2], "weight_decay": 0.1}, {"params": parameters[1::2], "weight_decay": 0.0}]
    optimizer, found = kind(groups, lr=0.01, **options), []
    for step in range(6):
        if step == 3:
            optimizer.load_state_dict(optimizer.state_dict())
        for parameter in parameters:
            parameter.grad = drawn(parameter.shape, parameter.dtype, generator)
        with torch.no_grad():
            if clip is not None:
                clip(parameters, optimizer)
            optimizer.step()
        found.append(content_hash([parameters, list(optimizer.state.values())]))
    return found


@pytest.mark.parametrize("clips", [False, True], ids=["as they are", "clipped"])
@pytest.mark.parametrize("types", TYPES, ids=lambda types: "_".join(str(one).removeprefix("torch.") for one in types))
def test_steps_are_those_of_torch_to_the_bit(types: tuple[torch.dtype, ...], clips: bool) -> None:
    is_real = not any(dtype.is_complex for dtype in types)
    for ours, theirs, options in PAIRS:
        expected = states(theirs, types, divide if clips else None, **options | ({} if is_real else {"fused": None}))
        assert len(set(expected)) == len(expected)
        assert states(ours, types, clip if clips else None, **options) == expected, (ours, options)


def test_a_group_without_complex_parameters_keeps_the_fused_kernel() -> None:
    complex_one, real_one = (nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.complex64, SINGLE))
    optimizer = AdamW([{"params": [complex_one]}, {"params": [real_one]}], lr=0.1, fused=True)
    assert [group["fused"] for group in optimizer.param_groups] == [None, True]


@pytest.mark.parametrize(
    ("body", "head", "optimizer"),
    [
        ("bfloat16", "bfloat16", "adamw"),
        ("float64", "float64", "adamw"),
        ("complex64", "complex64", "adamw"),
        ("complex64", "float64", "sgd"),
        ("float32", "bfloat16", "adamw"),
    ],
)
def test_a_run_is_complete_and_resumes_to_the_bit(body: str, head: str, optimizer: str, tmp_path: Path) -> None:
    overrides = (
        *("model._target_=tiny.typed.Typed", f"+model.body={body}", f"+model.head={head}"),
        *(f"training/optimizer={optimizer}", "training.gradient_clip=0.1", "training.max_epochs=1"),
    )
    whole, again = completed(tmp_path / "whole", *overrides), resumed(stopped(tmp_path / "again", 2, *overrides))
    assert again.predictions.read_bytes() == whole.predictions.read_bytes()
    first, second = (read_checkpoint(run.last_checkpoint) for run in (whole, again))
    for part in ("model_state_dict", "optimizer_state_dict"):
        assert content_hash(first[part]) == content_hash(second[part])
    assert read_object(again.metrics)["metrics"] == read_object(whole.metrics)["metrics"]
    assert failing(again) == []
