"""The form in which `uv.lock` is committed here: without the addresses of the index that it was made with.

uv takes such a lock for one that is behind `pyproject.toml`. The first `uv run` or `uv sync` of a clone resolves again,
prefers every locked version, and writes the addresses of the index in use into the work tree's copy.
"""

import re

_WITHOUT = (
    (re.compile(r'source = \{ registry = "[^"]*" \}'), 'source = { registry = "index" }'),
    (re.compile(r'\burl = "(?:[^"]*/)?([^"/?#]+)(?:[?#][^"]*)?"'), r'path = "\1"'),
    (re.compile(r"^\[options\]\n(?:.+\n)*\n", re.MULTILINE), ""),
    # Of this project: without its requirements uv does not take the lock for current.
    (re.compile(r"^\[package\.metadata(?:\.[^\]]*)?\]\n(?:.+\n)*\n?", re.MULTILINE), ""),
)


def without_addresses(lock: str) -> str:
    """Return the text of a `uv.lock` with names, versions, markers, dependencies and hashes alone."""
    for pattern, replacement in _WITHOUT:
        lock = pattern.sub(replacement, lock)
    return lock.rstrip("\n") + "\n"


def locked_files(lock: str) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the name and version of each package of a `uv.lock`, and the hashes of all their files.

    Versions of uv write the same resolution in different ways; these are equal if nothing else would be installed.
    """
    packages = re.findall(r'^name = "([^"]+)"\nversion = "([^"]+)"', lock, re.MULTILINE)
    return sorted(packages), set(re.findall(r'\bhash = "([^"]+)"', lock))
