"""Private names of loky."""

from typing import Any


def process_ids(executor: Any) -> list[int]:
    """Return the ids of an executor's processes, so that they can be sent a signal; it can only kill them itself."""
    return list(executor._processes)
