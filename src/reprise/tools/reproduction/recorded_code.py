"""The code of a run: checked out beside the clone, as it was recorded, and compared with the code that is here."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reprise.errors import InputError
from reprise.files.uv_lock import locked_files
from reprise.runs.code_files import FOLDERS, tree_of_code

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def find_clone() -> Path:
    """Return the root of the clone that this code runs from.

    Raises:
        InputError: if it is no clone.
    """
    try:
        root = _git(Path(__file__).parent, "rev-parse", "--show-toplevel")
    except (OSError, subprocess.SubprocessError):
        raise InputError(
            f"{tree_of_code()} is no git clone, which the recorded code could come from; --current-code runs the code "
            "that lies there"
        ) from None
    return Path(root.decode().rstrip("\n"))


def find_tree() -> Path:
    """Return the root of the clone that this code runs from, or of the tree, if it is no clone."""
    try:
        return find_clone()
    except InputError:
        return tree_of_code()


def is_commit_here(clone: Path, commit: object) -> bool:
    """Return whether `commit`, as recorded, is one of this clone."""
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return False
    try:
        _git(clone, "cat-file", "-e", f"{commit}^{{commit}}")
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@contextmanager
def checked_out(clone: Path, commit: object, patch: Path | None) -> Iterator[Path]:
    """Yield a temporary worktree with `commit`, and `patch` applied to it; afterwards nothing of it is left.

    Raises:
        InputError: if the commit is not in this clone, or the patch does not fit it.
    """
    if commit is None:
        raise InputError("the run did not record its commit: it was no git clone that it ran from; use --current-code")
    if not is_commit_here(clone, commit):
        advice = "fetch it (`git fetch --all`), or use --current-code"
        raise InputError(f"the run's commit {commit!r} is not in the clone {clone}: {advice}")
    with tempfile.TemporaryDirectory(prefix="reprise-code-") as scratch:
        worktree = Path(scratch) / "worktree"
        try:
            # Hooks of the user are about the user's own checkouts.
            _git(clone, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(worktree), str(commit))
            if patch is not None:
                _apply(patch, worktree)
            yield worktree
        finally:
            if worktree.exists():
                _git(clone, "worktree", "remove", "--force", "--force", str(worktree))


def changed_files(clone: Path, commit: str, patch: Path | None) -> list[str]:
    """Return the files in which the code of `clone`, as it lies there, differs from `commit` with `patch`.

    Raises:
        InputError: if the patch does not fit the commit.
    """
    with tempfile.TemporaryDirectory(prefix="reprise-index-") as scratch:
        # An index and a store of our own, so that nothing is left in the user's.
        objects = _git(clone, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().rstrip("\n")
        own = {
            "GIT_INDEX_FILE": str(Path(scratch) / "index"),
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        _git(clone, "read-tree", commit, variables=own)
        if patch is not None:
            _apply(patch, clone, "--cached", variables=own)
        recorded = _git(clone, "write-tree", variables=own).decode().strip()
        _git(clone, "read-tree", "HEAD", variables=own)
        _git(clone, "add", "--update", variables=own)
        # As for the patch: of the files that git does not track yet, those that are code.
        present = [name for name in FOLDERS if (clone / name).is_dir()]
        _git(clone, "add", "--", *present, variables=own)
        here = _git(clone, "write-tree", variables=own).decode().strip()
        names = _git(clone, "diff", "--name-only", "-z", recorded, here, variables=own).decode().split("\0")[:-1]
        if "uv.lock" in names:
            try:
                locks = [_git(clone, "show", f"{tree}:uv.lock", variables=own).decode() for tree in (recorded, here)]
            except subprocess.CalledProcessError:  # only one of them has it
                return names
            if locked_files(locks[0]) == locked_files(locks[1]):  # uv fills addresses in
                names.remove("uv.lock")
    return names


def patched_files(clone: Path, patch: Path) -> list[str]:
    """Return the files that a patch changes."""
    names = _git(clone, "apply", "--numstat", "-z", str(patch.resolve())).decode(errors="replace")
    return [line.split("\t", 2)[2] for line in names.split("\0") if line.count("\t") >= 2]


def _apply(patch: Path, directory: Path, *options: str, variables: Mapping[str, str] | None = None) -> None:
    try:
        _git(directory, "apply", *options, "--whitespace=nowarn", str(patch.resolve()), variables=variables)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise InputError(f"{patch} does not fit the recorded commit: {said}") from None


def _git(directory: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> bytes:
    environment = {**os.environ, **(variables or {})}
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=600, check=True).stdout
