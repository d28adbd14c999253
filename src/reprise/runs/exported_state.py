"""The state of a model in an export: tensors as safetensors, and as JSON what else a `state_dict` holds."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reprise.errors import InputError
from reprise.files.atomic_file import write_json
from reprise.files.json_file import read_object
from reprise.files.tagged_json import tagged, untagged
from reprise.runs.checkpoint import plain

WEIGHTS, EXTRA_STATE = "model.safetensors", "extra_state.json"


def write_state(state: Mapping[str, Any], directory: Path) -> None:
    """Write what `Module.state_dict` returned; of tied tensors one is written, and the names of the others with it."""
    from safetensors.torch import save_file

    tensors = _separate(state)
    first: dict[Any, str] = {}
    ties = {
        name: kept for name in sorted(tensors) if (kept := first.setdefault(_view(tensors[name], name), name)) != name
    }
    kept_tensors = {name: tensor.contiguous() for name, tensor in tensors.items() if name not in ties}
    save_file(kept_tensors, str(directory / WEIGHTS), metadata=ties or None)
    if extra := {name: value for name, value in state.items() if name not in tensors}:
        write_json(directory / EXTRA_STATE, tagged(plain(extra)))


def _separate(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state, with a copy in the place of each that shares a part of another one's memory."""
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
    views = {_view(tensor, name) for name, tensor in tensors.items()}
    num_views = Counter(storage for storage, *_ in views)
    return {
        name: tensor.clone() if num_views[_view(tensor, name)[0]] > 1 else tensor for name, tensor in tensors.items()
    }


def _view(tensor: Tensor, name: str) -> tuple[Any, ...]:
    """Return what is equal for two tensors if they are the same part of the same memory."""
    storage = tensor.untyped_storage().data_ptr()
    if not storage:
        return (name,)  # no memory at all
    return (tensor.device, storage), tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def read_extra_state(directory: Path) -> dict[str, Any]:
    """Return the entries of an exported state that are no tensors, by name.

    Raises:
        InputError: if the file is damaged.
    """
    path = directory / EXTRA_STATE
    try:
        extra: dict[str, Any] = untagged(read_object(path))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return extra


def load_state(model: nn.Module, directory: Path) -> None:
    """Load into `model` what `write_state` wrote.

    Raises:
        OSError, SafetensorError, RuntimeError: if it cannot be read, or is not of this model.
        InputError: if it is damaged.
    """
    from safetensors import safe_open

    with safe_open(str(directory / WEIGHTS), framework="pt") as file:
        state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        ties: dict[str, str] = file.metadata() or {}
    own = model.state_dict()
    for name, kept in ties.items():
        if name in own and kept in state:
            # Exports of version 0.1 have a view of a larger tensor under that one's name: it is a view here, too.
            is_same = is_lazy(own[name]) or own[name].shape == state[kept].shape
            state[name] = state[kept] if is_same else own[name]
    model.load_state_dict(state | read_extra_state(directory))
