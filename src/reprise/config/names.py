"""Which names experiments, runs and sweeps may have."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,127}")
"""One path component that is neither hidden nor leads elsewhere."""

SWEEPS = "sweeps"
"""The folder beside the runs of an experiment that holds its sweeps."""


def name_problem(name: str) -> str | None:
    """Return what is wrong with the name of an experiment or a sweep, or None."""
    if _NAME.fullmatch(name) and not name.endswith("."):
        return None
    return f"expected at most 128 letters, digits and . _ = , + - of which the first is a letter or digit, got {name!r}"


def run_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a run, or None."""
    if name == SWEEPS:
        return f"expected another name than {SWEEPS!r}, where the sweeps of an experiment lie"
    return name_problem(name)
