"""Keeps a command working whose standard output or error is closed, or goes away while it works.

A daemon starts programs without them; `| head -1` and a lost terminal take them away. Nobody reads what is printed
then, and a run has its log.
"""

import errno
import io
import os
import sys
from typing import Any

_GONE = (errno.EPIPE, errno.EIO)


class _Forgiving(io.FileIO):
    """A file that writes to nowhere once its reader, or its terminal, is gone."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def keep_output_working() -> None:
    """Open what is closed of stdin, stdout and stderr, and have the latter two outlive their readers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, before a file of the run does
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream: io.TextIOWrapper | None = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # something takes what is printed, such as a notebook
        if stream is not None:
            stream.flush()
        output = io.TextIOWrapper(
            io.BufferedWriter(_Forgiving(descriptor, "w", closefd=False)),
            encoding="utf-8" if stream is None else stream.encoding,
            errors="backslashreplace" if stream is None else stream.errors,
            line_buffering=name == "stderr" or os.isatty(descriptor),
        )
        setattr(sys, name, output)
