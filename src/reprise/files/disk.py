"""Compares the free space with the size of checkpoints, and turns errors of the disk into messages."""

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reprise.errors import StorageError
from reprise.text.numbers import binary_size

logger = logging.getLogger(__name__)

_FAILURES = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ESTALE", "ENOTCONN", "ENODEV", "ENXIO")
_CODES = frozenset(getattr(errno, name) for name in _FAILURES if hasattr(errno, name))


@contextmanager
def translate_disk_errors(place: Path, state: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn errors of the operating system about the disk under `place` into a message.

    `state`: the content of the checkpoint that is written. Any error about a file below `place` is one of the disk;
    about other files, only those that cannot be anything else.

    Raises:
        StorageError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if not is_storage_failure(error, place):
            raise
        raise StorageError(_message(error, place, None if state is None else num_bytes_of(state))) from error


def is_storage_failure(error: OSError, place: Path) -> bool:
    """Return whether an error is one of the disk, or about a file below `place`."""
    names = [os.path.realpath(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
    root = os.path.realpath(place)
    return error.errno in _CODES or any(os.path.commonpath([root, name]) == root for name in names)


def _message(error: OSError, place: Path, num_bytes: int | None) -> str:
    path = place if num_bytes is not None or error.filename is None else os.fsdecode(error.filename)
    parts = [f"{path} cannot be written or read: {error.strerror or error}"]
    free = free_bytes(place)
    if num_bytes is not None:
        parts.append(f"a checkpoint needs {binary_size(num_bytes)}")
    if free is not None:
        parts.append(f"{binary_size(free)} are free there")
    return "; ".join(parts) + ". The checkpoints that were there are whole; once there is room, the run carries on."


def free_bytes(place: Path) -> int | None:
    """Return how much can still be written below `place`, or where it would lie; None if that is unknown."""
    for path in (place, *place.absolute().parents):
        try:
            status = os.statvfs(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return status.f_bavail * status.f_frsize
    return None


def num_bytes_of(value: Any) -> int:
    """Return how many bytes the tensors in nested containers hold."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(num_bytes_of(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(num_bytes_of(item) for item in value if isinstance(item, Tensor | Mapping | list | tuple))
    return 0


def checkpoint_size(model: nn.Module, optimizer: Any) -> int:
    """Return about how many bytes a checkpoint has at most; before the first step the optimizer's part is a guess."""
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return num_bytes_of(model.state_dict()) + max(num_bytes_of(optimizer.state_dict()), 2 * trained)


def warn_of_little_space(folder: Path, size: int, num_files: int) -> None:
    """Warn if there is no room for so many checkpoints of `size` bytes in `folder`, those that are there included."""
    free = free_bytes(folder)
    there = sum(path.stat().st_size for path in folder.glob("*.pt"))
    if free is not None and size * num_files > free + there:
        logger.warning(
            "%s may become too small: a checkpoint needs about %s, and up to %d are there at once, which is %s; %s are "
            "free. callbacks.checkpoints.keep limits the periodic ones",
            *(folder, binary_size(size), num_files, binary_size(size * num_files), binary_size(free + there)),
        )
