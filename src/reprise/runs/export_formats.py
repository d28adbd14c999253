"""Writes a trained model as ONNX and as a `torch.export` program beside its export, and compares what they compute.

Both take the arguments of `forward` by name, without labels, and return the logits. The number of samples is open, and
so is every other size that differs between samples, such as the length of a text.
"""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reprise.data import Batch, Data
from reprise.errors import ExportFailed
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.models import evaluating
from reprise.runs.export import ONNX
from reprise.training.loading import Fetcher

RECORD = "exported.json"
"""What was compared, beside the files: inputs, and the largest difference from the model's own logits."""

_NUM_COMPARED = 5
_LARGEST_DIFFERENCE = 1e-3


def write_formats(model: nn.Module, data: Data, directory: Path, formats: Collection[str]) -> dict[str, float]:
    """Write `model` into `directory` in each format; return the largest difference of its logits, by file name.

    Raises:
        ExportFailed: if a format cannot hold it, or gives other logits. What went wrong is recorded, too.
    """
    record = read_object(directory / RECORD)
    differences, failures = {}, {}
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    model.eval().cpu()
    try:
        examples = _examples(data)
        names = [name for name in examples[0] if name != "labels"]
        with _quietly(), evaluating(model):
            try:
                program = _export(_Logits(model, names), data, examples[0], names)
            except Exception as error:
                failures = {name: f"torch.export: {type(error).__name__}: {error}" for name in formats}
            for name in formats:
                if name in failures:
                    continue
                try:
                    write = _write_onnx if name == ONNX else _write_program
                    differences[name] = write(program, directory / name, model, examples, names)
                    record[name] = {"inputs": _sizes(program), "largest_difference": differences[name]}
                except Exception as error:
                    failures[name] = f"{type(error).__name__}: {error}"
    finally:
        model.to(device)
    for name, failure in failures.items():
        record[name] = {"error": failure}
        (directory / name).unlink(missing_ok=True)
    write_json(directory / RECORD, record)
    if failures:
        raise ExportFailed("; ".join(f"{name}: {failure}" for name, failure in failures.items()))
    return differences


class _Logits(nn.Module):
    """A model that takes its inputs by name and returns nothing but logits."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        signature = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )

        def forward(*arguments: Tensor, **named: Tensor) -> Tensor:
            # Not the module itself: that may be compiled.
            outputs: Any = self.model.forward(**signature.bind(*arguments, **named).arguments)
            logits: Tensor = outputs.logits
            return logits

        forward.__signature__ = signature  # type: ignore[attr-defined]
        self.forward = forward


def _examples(data: Data) -> list[Batch]:
    """Return a batch of two samples, to export with, and others to compare with."""
    numbers = np.arange(2 + _NUM_COMPARED) % len(data.splits["val"])
    return [_read(data, numbers[:2]), _read(data, numbers[2:]), _read(data, numbers[-1:])]


def _read(data: Data, numbers: NDArray[np.int64]) -> Batch:
    """Return the samples with some numbers as a batch, as an evaluation does."""
    return Fetcher(data.splits["val"], data.collate, seed=0, purpose="val")[0, numbers]


def _export(model: nn.Module, data: Data, example: Batch, names: Sequence[str]) -> Any:
    single = [_read(data, np.array([number])) for number in range(min(16, len(data.splits["val"])))]
    open_sizes: dict[str, dict[int, Any]] = {}
    for name in names:
        shapes = {batch[name].shape for batch in single}
        differing = [axis for axis in range(1, example[name].ndim) if len({shape[axis] for shape in shapes}) > 1]
        dynamic, if_possible = torch.export.Dim.DYNAMIC, torch.export.Dim.AUTO
        open_sizes[name] = {0: dynamic} | dict.fromkeys(differing, if_possible)
    inputs = {name: example[name] for name in names}
    return torch.export.export(model, (), inputs, dynamic_shapes=open_sizes, strict=False)


def _write_program(
    program: Any, path: Path, model: nn.Module, examples: Sequence[Batch], names: Sequence[str]
) -> float:
    with _whole(path) as scratch:
        torch.export.save(program, scratch)
        loaded = torch.export.load(scratch).module()
        return _compare(model, examples, names, lambda inputs: loaded(**inputs))


def _write_onnx(program: Any, path: Path, model: nn.Module, examples: Sequence[Batch], names: Sequence[str]) -> float:
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        """As ONNX defines it; the one of the evaluator fails where there are fewer indices than rows."""

        def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[Any]:
            axis %= data.ndim
            rows = tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(indices.shape))
            return (np.take_along_axis(data[rows], indices, axis),)

    with _whole(path) as scratch:
        written: Any = torch.onnx.export(program, dynamo=True, output_names=["logits"], verbose=False)
        written.save(scratch)
        evaluator = ReferenceEvaluator(onnx.load(scratch), new_ops=[GatherElements])

        def compute(inputs: Mapping[str, Tensor]) -> Tensor:
            (logits,) = evaluator.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            return torch.from_numpy(logits)

        return _compare(model, examples, names, compute)


def _compare(model: nn.Module, examples: Sequence[Batch], names: Sequence[str], compute: Any) -> float:
    """Return the largest difference from the model's own logits; raise ExportFailed if it is no rounding."""
    largest = 0.0
    for example in examples:
        inputs = {name: example[name] for name in names}
        expected, found = model(**inputs).logits, compute(inputs)
        if expected.shape != found.shape:
            raise ExportFailed(f"expected logits of shape {tuple(expected.shape)}, got {tuple(found.shape)}")
        difference = float((expected - found).abs().max())
        if not difference <= _LARGEST_DIFFERENCE * max(1.0, float(expected.abs().max())):
            raise ExportFailed(f"its logits differ from the model's by up to {difference:.3g}")
        largest = max(largest, difference)
    return largest


def _sizes(program: Any) -> dict[str, list[int | str]]:
    """Return the sizes of each input; `any` where they are open."""
    names = program.graph_signature.user_inputs
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return {name: [size if isinstance(size, int) else "any" for size in nodes[name].shape] for name in names}


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a file a name of its own until it is complete."""
    scratch = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what the exporters say to those who write exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
