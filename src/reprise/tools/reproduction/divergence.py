"""Finds where two runs part: metrics line by line, then weights tensor by tensor, then results. It does not ask why."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprise.errors import CheckpointError, InputError
from reprise.files.content_hash import content_hash
from reprise.files.differences import compare
from reprise.files.json_file import read_object
from reprise.files.json_values import text_at
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.exported_state import EXTRA_STATE, read_extra_state
from reprise.runs.metrics_log import MetricEntry, read_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.tools.reproduction.findings import (
    CheckpointComparison,
    Findings,
    LineDifference,
    TensorDifference,
    value_text,
)

_ABSENT = object()
_STATES = {"optimizer_state_dict": "optimizer", "scheduler_state_dict": "schedule", "loop_state": "loop"}


def find_divergence(recorded: RunDirectory, repeated: RunDirectory, steps: int | None, is_complete: bool) -> Findings:
    """Compare two runs; only the first `steps` optimizer steps of them if that is given.

    `is_complete`: whether both came to their end, so that they have results.

    Raises:
        InputError: if a file of them is damaged.
    """
    first, second = (list(_entries(run, steps)) for run in (recorded, repeated))
    lines = [line for a, b in zip_longest(first, second) if (line := _line(a, b)) is not None]
    before = [a.step for a, b in zip(first, second, strict=False) if not lines or a.step < lines[0].step]
    results: list[str] = []
    compared: list[str] = []
    for name, comparison in _RESULTS.items() if is_complete else ():
        files = [getattr(run, name) for run in (recorded, repeated)]
        if all(file.exists() for file in files):
            compared.append(name)
            results += comparison(*files)
    checkpoints, traces = zip(*(_checkpoints(run) for run in (recorded, repeated)), strict=True)
    initial = [text_at(read_object(run.provenance), "model", "initial_sha256") for run in (recorded, repeated)]
    return Findings(
        num_lines=len(first),
        lines=tuple(lines),
        equal_up_to=max(before, default=0),
        checkpoints=tuple(_compare_checkpoints(*checkpoints)),
        results=tuple(results),
        compared_results=tuple(compared),
        initial_weights_differ=None not in initial and initial[0] != initial[1],
        traced=_compare_traces(*traces),
    )


def _entries(run: RunDirectory, steps: int | None) -> Iterator[MetricEntry]:
    try:
        for entry in read_metrics(run.metrics_log):
            if steps is None or entry.step <= steps:
                yield entry
    except (ValueError, TypeError) as error:
        raise InputError(f"{run.metrics_log}: not the metrics of a run: {error}") from None


def _place(entry: MetricEntry | None) -> tuple[int, int] | None:
    return None if entry is None else (entry.step, entry.epoch)


def _line(a: MetricEntry | None, b: MetricEntry | None) -> LineDifference | None:
    """Return in what two lines differ; of lines of two places the later one counts as missing."""
    place = min(found for entry in (a, b) if (found := _place(entry)) is not None)
    first, second = ({} if e is None or _place(e) != place else e.metrics for e in (a, b))
    names = tuple(name for name in {**first, **second} if first.get(name) != second.get(name))
    if not names and _place(a) == _place(b):
        return None
    name = names[0] if names else ""
    return LineDifference(place[0], name, first.get(name), second.get(name), names)


def _compare_checkpoints(first: Mapping[int, Path], second: Mapping[int, Path]) -> Iterator[CheckpointComparison]:
    for step in sorted(first.keys() & second.keys()):
        a, b = (_read(found[step]) for found in (first, second))
        weights = [state["model_state_dict"] for state in (a, b)]
        names = list(dict.fromkeys([*weights[0], *weights[1]]))
        differing = [d for name in names if (d := _entry(name, *(w.get(name, _ABSENT) for w in weights)))]
        differing.sort(key=lambda d: float("-inf") if d.largest is None else -d.largest)
        a["loop_state"], b["loop_state"] = _in_both(a.get("loop_state"), b.get("loop_state"))
        states = tuple(word for key, word in _STATES.items() if content_hash(a.get(key)) != content_hash(b.get(key)))
        yield CheckpointComparison(first[step].name, step, len(names), tuple(differing), states)


def _in_both(first: Any, second: Any) -> tuple[Any, Any]:
    """Return two states of the loop with the keys that both have: an older engine saved fewer."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return first, second
    pairs = {key: _in_both(first[key], second[key]) for key in first if key in second}
    return {key: a for key, (a, _) in pairs.items()}, {key: b for key, (_, b) in pairs.items()}


def _compare_traces(first: Mapping[int, int], second: Mapping[int, int]) -> tuple[int, int | None]:
    steps = sorted(first.keys() & second.keys())
    parting = next((step for step in steps if first[step] != second[step]), None)
    return max((step for step in steps if parting is None or step < parting), default=0), parting


def _checkpoints(run: RunDirectory) -> tuple[dict[int, Path], dict[int, int]]:
    """Return one checkpoint for each step that has one, and the checksums of the weights that the last one holds."""
    paths, trace = {}, {}
    for path in sorted(run.checkpoints.glob("*.pt")):
        state = _read(path)
        paths[state["step"]] = path
        if path == run.last_checkpoint:
            trace = _trace(state)
    return paths, trace


def _trace(state: Mapping[str, Any]) -> dict[int, int]:
    """Return the checksums of the weights by step, as the callback `WeightsTrace` keeps them."""
    traces = [kept for kept in state.get("callback_states", {}).values() if "checksums" in kept]
    return {k: v for t in traces for k, v in zip(t["steps"].tolist(), t["checksums"].tolist(), strict=True)}


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None


def _entry(name: str, a: Any, b: Any) -> TensorDifference | None:
    if a is _ABSENT or b is _ABSENT:
        return TensorDifference(name, None, "only in the recorded run" if b is _ABSENT else "only in the repeat")
    if content_hash(a) == content_hash(b):  # bits, not values: -0.0 is not 0.0, and NaN is NaN
        return None
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return TensorDifference(name, None, f"{value_text(a)}, now {value_text(b)}")
    if a.shape != b.shape or a.dtype != b.dtype:
        return TensorDifference(name, None, f"{a.dtype} {tuple(a.shape)}, now {b.dtype} {tuple(b.shape)}")
    return TensorDifference(name, float((a.to(torch.float64) - b.to(torch.float64)).abs().max()))


def _predictions(recorded: Path, repeated: Path) -> Iterator[str]:
    try:
        a, b = (list(json.loads(path.read_text(encoding="utf-8"))) for path in (recorded, repeated))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{recorded}: expected a list in JSON ({error})") from None
    differing = [i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y]
    if differing:
        yield f"predictions: {len(differing)} of {max(len(a), len(b))} differ, first number {differing[0]}"


def _metrics(recorded: Path, repeated: Path) -> Iterator[str]:
    for d in compare(*(read_object(path) for path in (recorded, repeated))):
        yield f"results: {d.key} was {value_text(d.first)}, is {value_text(d.second)}"


def _export(recorded: Path, repeated: Path) -> Iterator[str]:
    from safetensors.torch import load_file

    for name in sorted({path.name for folder in (recorded, repeated) for path in folder.glob("*.safetensors")}):
        if not ((recorded / name).exists() and (repeated / name).exists()):
            yield f"export: {name} is there only once"
            continue
        a, b = (load_file(folder / name) for folder in (recorded, repeated))
        differing = [key for key in a.keys() | b.keys() if _entry(key, a.get(key, _ABSENT), b.get(key, _ABSENT))]
        if differing:
            yield f"export: {len(differing)} of {len(a.keys() | b.keys())} tensors of {name} differ"
    if len({content_hash(read_extra_state(folder)) for folder in (recorded, repeated)}) > 1:
        yield f"export: {EXTRA_STATE} differs"


_RESULTS: dict[str, Callable[[Path, Path], Iterator[str]]] = {
    "predictions": _predictions,
    "metrics": _metrics,
    "export": _export,
}
