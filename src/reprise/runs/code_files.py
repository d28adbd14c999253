"""The code of a tree without git history, such as an unpacked archive, recorded by the hash of its files."""

import hashlib
from pathlib import Path

FOLDERS = ("src", "configs", "scripts")
"""What decides about a run: of other files a change is no change of the code."""


def tree_of_code() -> Path:
    """Return the directory that this code lies in, with `src`, `configs` and `scripts`."""
    return Path(__file__).resolve().parents[3]


def code_sha256(tree: Path) -> str | None:
    """Return the sha256 of paths and contents of all files of the code; None if nothing of a project lies there.

    Left out is what installing and importing makes, and what is hidden.
    """
    digest, num_files = hashlib.sha256(), 0
    for path in sorted(path for name in FOLDERS for path in (tree / name).rglob("*")):
        parts = path.relative_to(tree).parts
        if any(part.startswith(".") or part == "__pycache__" or part.endswith(".egg-info") for part in parts):
            continue
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            name = "/".join(parts).encode(errors="surrogateescape")
            digest.update(b"%d:%s%s" % (len(name), name, content.encode()))
            num_files += 1
    return digest.hexdigest() if num_files else None
