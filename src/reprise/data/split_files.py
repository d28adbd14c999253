"""Finds the files of a directory that give the splits of a data set."""

from collections.abc import Collection
from pathlib import Path

from reprise.errors import InputError

_STEMS = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}


def find_split_files(directory: Path, suffixes: Collection[str] | None = None) -> dict[str, Path]:
    """Return the file of each split that has one, by its name: train, val (or validation …) and test.

    `suffixes`: those that count, in lower case; None: all of them.

    Raises:
        InputError: if two files claim the same split.
    """
    files = sorted(
        path for path in directory.iterdir() if path.is_file() and (suffixes is None or path.suffix.lower() in suffixes)
    )
    found = {}
    for split, stems in _STEMS.items():
        candidates = [path for path in files if path.stem.lower() in stems]
        if len(candidates) > 1:
            names = " and ".join(path.name for path in candidates)
            raise InputError(f"data.path: {directory}: expected one file for the {split} split, found {names}")
        if candidates:
            found[split] = candidates[0]
    return found
