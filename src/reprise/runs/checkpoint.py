"""One file holds the whole state of a run: written whole or not at all, verified when read, and safe to load."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from reprise.config.moved import with_current_targets
from reprise.errors import CheckpointError
from reprise.files.atomic_file import atomic_file
from reprise.files.content_hash import content_hash
from reprise.randomness import capture_rng_state, restore_rng_state

_KEYS = (
    *("epoch", "step", "model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "metrics", "config"),
    *("torch_rng_state", "numpy_rng_state", "python_rng_state"),
)


def _detached(tensor: Tensor, where: str) -> Tensor:
    return tensor.detach()


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


def save_checkpoint(
    model: nn.Module,
    optimizer: Stateful | None,
    scheduler: Stateful | None,
    epoch: int,
    step: int,
    metrics: Mapping[str, float],
    config: Any,
    path: str | Path,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the state of everything that training depends on, the global random states included.

    `config` is a mapping, or anything with `to_dict()`. `extra` holds further states under keys of their own. All
    values are turned into tensors and plain Python values.

    Raises:
        TypeError: if a value is neither.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    values = {"epoch": epoch, "step": step, "metrics": metrics, "config": config, **(extra or {})}
    write_checkpoint(plain(gather_state(model, optimizer, scheduler, values)), Path(path))


def gather_state(
    model: nn.Module, optimizer: Stateful | None, scheduler: Stateful | None, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what `save_checkpoint` writes, before `plain`: its tensors are those that training changes."""
    return {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": None if optimizer is None else optimizer.state_dict(),
        "scheduler_state_dict": None if scheduler is None else scheduler.state_dict(),
        **capture_rng_state(),
        **values,
    }


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state that `plain` returned, with its checksum, whole or not at all."""
    try:
        with atomic_file(path) as file:
            torch.save({**state, "sha256": content_hash(state)}, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch closes its archive then, and complains about that instead
            raise error.__context__ from None
        raise


class HostCopy:
    """A copy of a state in host memory, where training cannot change it; its memory is used again for the next one."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return `state` in plain values that share nothing with it, valid until the next call.

        Raises:
            TypeError: if a value is neither a tensor nor plain.
        """
        copied: dict[str, Any] = plain(state, tensor=self._copy)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        return copied

    def _copy(self, tensor: Tensor, where: str) -> Tensor:
        buffer = self._buffers.get(where)
        if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
            # A GPU copies into pinned memory without waiting.
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[where] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)


def load_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: Stateful | None = None,
    scheduler: Stateful | None = None,
    device: torch.device | str | None = None,
    *,
    restore_rng: bool = True,
) -> dict[str, Any]:
    """Load a checkpoint into `model`, and into `optimizer` and `scheduler` where given; return all of it.

    With `restore_rng` the global random states of Python, NumPy and torch become those of then, too.

    Raises:
        CheckpointError: if the file is damaged, or is no checkpoint, or does not fit `model`.
    """
    state = read_checkpoint(path, device)
    load_state(state, path, model, optimizer, scheduler)
    if restore_rng:
        restore_rng_state(state)
    return state


def load_state(
    state: Mapping[str, Any],
    path: str | Path,
    model: nn.Module,
    optimizer: Stateful | None = None,
    scheduler: Stateful | None = None,
) -> None:
    """Load the content of the checkpoint at `path` into `model`, and into `optimizer` and `scheduler` where given.

    Raises:
        CheckpointError: if it does not fit.
    """
    try:
        model.load_state_dict(state["model_state_dict"])
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the model: {error}") from None
    for name, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is not None:
            if state[f"{name}_state_dict"] is None:
                raise CheckpointError(f"{path} holds no state of the {name}")
            try:
                target.load_state_dict(state[f"{name}_state_dict"])
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"{path} does not fit the {name}: {error}") from None


def read_checkpoint(path: str | Path, device: torch.device | str | None = None) -> dict[str, Any]:
    """Return the content of a checkpoint after checking it against its checksum; `device` defaults to the CPU.

    Raises:
        CheckpointError: if the file is damaged or is no checkpoint.
    """
    with Path(path).open("rb"):
        pass  # what cannot be opened is not damaged
    try:
        state = torch.load(path, map_location=device or "cpu", weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # damaged bytes make the unpickler fail in any way at all
        raise CheckpointError(f"{path} is damaged, or is no checkpoint: {error}") from None
    if not isinstance(state, dict) or "sha256" not in state:
        raise CheckpointError(f"{path} is no checkpoint of this project: it has no checksum")
    if lacking := [key for key in _KEYS if key not in state]:
        raise CheckpointError(f"{path} is no checkpoint of this project: it has no {', '.join(lacking)}")
    if not isinstance(state["step"], int) or not isinstance(state["config"], dict):
        raise CheckpointError(f"{path} is no checkpoint of this project: expected a step and a config in it")
    if content_hash({key: value for key, value in state.items() if key != "sha256"}) != state["sha256"]:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    return state | {"config": with_current_targets(state["config"])}


def plain(value: Any, where: str = "", tensor: Callable[[Tensor, str], Tensor] = _detached) -> Any:
    """Return `value` as tensors and plain Python values only, which is what `weights_only=True` loads.

    `tensor` is called with each tensor and where it stands, and returns its replacement.

    Raises:
        TypeError: if something in it is neither; the message says where.
    """
    kind = type(value)
    if value is None or kind in _PLAIN:
        return value
    if isinstance(value, Tensor):
        return tensor(value, where)
    # NumPy scalars first: np.float64 is a float, too, and would be refused when loading.
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    for base in (int, float, str, bytes):
        if isinstance(value, base):
            return base(value)  # type: ignore[arg-type]
    if isinstance(value, list | tuple):
        items = value if _are_ints(value) else (plain(item, f"{where}[{i}]", tensor) for i, item in enumerate(value))
        return list(items) if isinstance(value, list) else tuple(items)
    if kind is dict or isinstance(value, Mapping):  # the first is faster to see
        return {
            plain(key, where): plain(item, f"{where}.{key}" if where else str(key), tensor)
            for key, item in value.items()
        }
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value), where, tensor)
    raise TypeError(f"{where}: a checkpoint holds tensors and plain values, not {kind.__name__}")


_PLAIN = (bool, int, float, str, bytes)


def _are_ints(values: list[Any] | tuple[Any, ...]) -> bool:
    # Random states are hundreds of them.
    return set(map(type, values)) <= {int}
