"""Did-you-mean: what to write instead of a name that is not known."""

import difflib
from collections.abc import Iterable


def unknown(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the message for a name that is not among `known`."""
    return f"unknown; {instead(name, known, prefix)}"


def instead(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return what to write instead of `name`: the nearest one of `known`, or all of them if none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{prefix}{near[0]}`?"
    return f"known here: {', '.join(known) if known else 'none'}"
