"""What is said to a person whose input is wrong."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class InputError(Exception):
    """The user's input is wrong. The message names the key or file; no traceback is shown; the exit code is 2."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one key of the config."""

    key: str
    message: str
    origin: str | None = None
    """The file or override that the value came from."""


class ConfigError(InputError):
    """All problems of a config at once, under one headline."""

    def __init__(self, problems: Sequence[Problem], headline: str | None = None) -> None:
        self.problems = tuple(problems)
        self.headline = headline or f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in the config"
        super().__init__("\n".join(_sentence(problem) for problem in problems))


def _sentence(problem: Problem) -> str:
    origin = f" ({problem.origin})" if problem.origin else ""
    return f"{problem.key}{origin}: {problem.message}"


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
