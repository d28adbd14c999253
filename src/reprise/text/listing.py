"""Names of which there may be too many for one line."""

from collections.abc import Iterable


def first_few(names: Iterable[object], most: int = 3) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    every = list(map(str, names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
