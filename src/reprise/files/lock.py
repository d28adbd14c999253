"""Lets one process at a time work on a run, on one machine and on a file system that several share.

The lock is one of the operating system, so that it ends with the process, however that ends. On NFS it is one of the
server, since `flock` on a file that is open for writing becomes a lock of the protocol. The file names the holder.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reprise.errors import RunInUse

_TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _leave_locks_to_the_parent() -> None:
    while _held:
        os.close(_held.pop())


# A loader worker outlives a killed run by some seconds, and must not keep the run from the command that resumes it.
os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file `path`; that of a dead process is replaced.

    Raises:
        RunInUse: if another process holds it.
    """
    descriptor, path = _take(path)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a child
            with contextlib.suppress(OSError):
                path.unlink()
            _held.remove(descriptor)
            os.close(descriptor)


def _take(path: Path) -> tuple[int, Path]:
    """Return the descriptor and the path of the file whose removal gives the lock back."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise _in_use(path) from None
            if error.errno not in _NO_LOCKS_HERE:
                raise
            return _take_by_creation(path)
        if _is_still_there(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _holder())
            return descriptor, path
        os.close(descriptor)  # the holder before has removed it


def _take_by_creation(path: Path) -> tuple[int, Path]:
    """Take the lock where the file system knows none: the process that creates a second file has it.

    A dead holder is recognised if it ran on this machine, and on no other.
    """
    path.unlink(missing_ok=True)
    path = path.with_name(f"{path.name}-held")
    while True:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.write(descriptor, _holder())
            return descriptor, path
        holder = _read(path)
        if holder.get("host") != socket.gethostname() or _is_alive(holder.get("pid")):
            raise _in_use(path, f"; if that is dead, remove {path}")
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)  # of several that find it dead, one moves it
            aside.unlink()


def _in_use(path: Path, advice: str = "") -> RunInUse:
    for _ in range(50):  # the holder writes its name right after it has the lock
        if holder := _read(path):
            break
        time.sleep(0.01)
    return RunInUse(
        f"{path.parent} is in use by process {holder.get('pid', '?')} on {holder.get('host', '?')} "
        f"since {holder.get('since', '?')}{advice}"
    )


def _holder() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return (json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}) + "\n").encode()


def _read(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True
