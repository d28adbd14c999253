"""Sees which operations have no deterministic implementation: torch warns of each, or with `strict` raises.

Not seen is what loader processes do, and what warns below a filter that was set while the block was under way.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from reprise.errors import NondeterministicOperationError

_MESSAGE = re.compile(
    r"(.+?) (?:does not have a deterministic implementation|defaults to a non-deterministic algorithm)"
)


@contextmanager
def nondeterministic_operations_noted(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` with the name of each operation that warns inside the block, at its first warning.

    The warning itself is shown once for each block and operation, whatever the filters of Python say: it must not get
    lost, and what should be an error is asked for with `strict`. All other warnings go their usual way.

    Raises:
        NondeterministicOperationError: in place of the error that torch raises with `strict`.
    """
    seen: set[str] = set()
    warned_always = torch.is_warn_always_enabled()
    with warnings.catch_warnings():
        show_as_before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
            operation = _operation_in(message)
            if operation in seen:
                return
            if operation is not None:
                seen.add(operation)
                note(operation)
            show_as_before(message, category, *where, **how)

        # Python shows a warning once for each line of code in a process; a later run in it must see it, too.
        warnings.filterwarnings("always", message=_MESSAGE.pattern)
        warnings.showwarning = show
        # torch gives some of its warnings once in a process.
        torch.set_warn_always(True)
        try:
            yield
        except RuntimeError as error:
            operation = _operation_in(error)
            if operation is None:
                raise
            raise NondeterministicOperationError(
                f"{operation} has no deterministic implementation here, and deterministic=strict allows none without; "
                "replace the operation, or let deterministic=true warn of it and list it in the model card"
            ) from error
        finally:
            torch.set_warn_always(warned_always)


def _operation_in(message: object) -> str | None:
    match = _MESSAGE.match(str(message))
    return match[1] if match else None
