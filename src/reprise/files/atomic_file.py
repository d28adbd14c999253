"""A file appears whole under its final name, or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; when the block ends without an error it replaces `path`, durably.

    The temporary file lies in the same directory, since a rename is atomic only within one file system. Its name
    begins with a dot and ends with `.tmp`.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    # Not by `tempfile`: its files are for their owner alone, and a mask for others is one of the whole process.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb", buffering=2**20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what is left is removed at the next start
            os.unlink(temporary)
        raise
    sync(path.parent)


def keep(path: Path, name: Path) -> None:
    """Keep the present content of `path` under another name in the same directory, unless something is there already.

    The two share their space until `path` is replaced.
    """
    try:
        os.link(path, name)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        copy_file(path, name)


def copy_file(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with atomic_file(target) as copy, path.open("rb") as file:
        shutil.copyfileobj(file, copy, length=2**24)


def sync(path: Path) -> None:
    """Make the content of a file durable, or the names in a directory; what is not there is left alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON for people and machines: indented, no NaN, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
