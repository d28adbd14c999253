"""Reads committed files with git, and turns a clean work tree into a target, whatever interrupts it.

A target is computed from committed files alone. So a file of an interrupted attempt is either as committed or as the
target wants it, and the same command again completes it; anything else is a user's uncommitted change.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reprise.errors import InputError
from reprise.files.atomic_file import atomic_file
from reprise.text.listing import first_few
from reprise.tools.ownership.halves import LOCKS

_MOST_NAMED = 20
_EXECUTABLE = "100755"
_REGULAR = ("100644", _EXECUTABLE)


@dataclass(frozen=True)
class Entry:
    """A committed file: its mode and the id of its content, as git has them."""

    mode: str
    blob: str


@dataclass(frozen=True)
class File:
    content: bytes
    is_executable: bool = False


Target = Mapping[str, File | None]
"""The wanted content by path; None: no such file."""


def text_file(text: str) -> File:
    return File(text.encode())


class Repository:
    """The git repository at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, given: bytes | None = None) -> bytes:
        """Return what git prints.

        Raises:
            InputError: with git's message, if it fails or is not installed.
        """
        command = ["git", "-C", str(self.path), *arguments]
        # Inside a hook of git, such variables would lead to another repository.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_DIR", "GIT_WORK", "GIT_INDEX"))
        }
        environment["GIT_TERMINAL_PROMPT"] = "0"
        try:
            done = subprocess.run(command, input=given, capture_output=True, env=environment, check=False)
        except OSError as error:
            raise InputError(f"git cannot be run: {error}") from None
        if done.returncode:
            raise InputError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def setting(self, name: str) -> str | None:
        """Return a value of git's configuration, None if it is not set."""
        try:
            return self.git("config", "--get", name).decode().strip() or None
        except InputError:
            return None

    def tree(self, commit: str) -> dict[str, Entry]:
        """Return all files of a commit by path; links and submodules are among them."""
        found = {}
        for line in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            mode, _, blob = facts.decode().split()
            found[path.decode(errors="surrogateescape")] = Entry(mode, blob)
        return found

    def files(self, entries: Mapping[str, Entry]) -> dict[str, File]:
        """Return the contents of committed files.

        Raises:
            InputError: if one is not a regular file, or its path leads out of the repository.
        """
        for path, entry in entries.items():
            parts = [part.lower() for part in path.split("/")]
            if entry.mode not in _REGULAR or {"", ".", "..", ".git"}.intersection(parts):
                raise InputError(f"{path}: expected a regular file inside the repository (mode {entry.mode})")
        names = "".join(f"{entry.blob}\n" for entry in entries.values())
        output = self.git("cat-file", "--batch", given=names.encode())
        found, position = {}, 0
        for path, entry in entries.items():
            end = output.index(b"\n", position)
            size = int(output[position:end].split()[2])
            found[path] = File(output[end + 1 : end + 1 + size], entry.mode == _EXECUTABLE)
            position = end + size + 2
        return found

    def refuse_uncommitted(self, target: Target, command: str) -> None:
        """Check that the work tree differs from the last commit by nothing but a part of the target.

        Raises:
            InputError: naming the files that a user changed and did not commit.
        """
        status = self.git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
        changed = {line[3:].decode(errors="surrogateescape") for line in status.split(b"\0")[:-1]}
        head = self.tree("HEAD")
        # Git does not list what it ignores, and that must not be overwritten either.
        changed |= {path for path in target if path not in head and (self.path / path).exists()}
        wrong = sorted(path for path in changed.difference(LOCKS) if not _is_reached(self.path, path, target))
        if wrong:
            raise InputError(
                f"{listed(wrong)}: not committed. Commit or remove what is yours first; what is left of an interrupted "
                f"{command} with other arguments goes with `git stash --include-untracked`."
            )
        for path in target:
            for parent in list((self.path / path).parents)[: path.count("/")]:
                if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
                    raise InputError(f"{parent}: expected a directory, for {path}")

    def apply(self, target: Target, last: Collection[str] = ()) -> None:
        """Turn the work tree into the target, file by file; those in `last` at the end."""
        for path in sorted(target, key=lambda path: (path in last, path)):
            wanted, file = target[path], self.path / path
            if wanted is None:
                file.unlink(missing_ok=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            for leftover in file.parent.glob(f".{file.name}.*.tmp"):
                leftover.unlink()
            if not file.is_file() or file.read_bytes() != wanted.content:
                with atomic_file(file) as stream:
                    stream.write(wanted.content)
            mode = file.stat().st_mode & 0o777
            file.chmod(mode | (mode & 0o444) >> 2 if wanted.is_executable else mode & ~0o111)
        for path in sorted((path for path, wanted in target.items() if wanted is None), reverse=True):
            _remove_empty(self.path, (self.path / path).parent)


def clone_at(path: Path) -> Repository:
    """Return the repository whose work tree is exactly `path`.

    Raises:
        InputError: if it is not the top of a git work tree with a commit.
    """
    repository = Repository(path)
    try:
        top = repository.git("rev-parse", "--show-toplevel").decode().rstrip("\n")
        repository.git("rev-parse", "--verify", "HEAD^{commit}")
    except InputError:
        raise InputError(
            f"{path}: expected a git repository with a commit: git init && git add . && git commit"
        ) from None
    if Path(top).resolve() != path.resolve():
        raise InputError(f"{path}: expected the top of a git repository, but that is {top}")
    return repository


def _is_reached(root: Path, path: str, target: Target) -> bool:
    if path not in target:
        return _interrupted_write_of(path) in target
    wanted, file = target[path], root / path
    if wanted is None:
        return not os.path.lexists(file)
    return file.is_file() and not file.is_symlink() and file.read_bytes() == wanted.content


def _interrupted_write_of(path: str) -> str | None:
    """Return the file that a temporary file of `atomic_file` was to become."""
    match = re.fullmatch(r"(.*/)?\.([^/]+)\.\w+\.tmp", path)
    return match and f"{match[1] or ''}{match[2]}"


def _remove_empty(root: Path, folder: Path) -> None:
    while folder != root and folder.is_dir() and {item.name for item in folder.iterdir()} <= {"__pycache__"}:
        shutil.rmtree(folder)
        folder = folder.parent


def listed(paths: Iterable[str]) -> str:
    """Return paths separated by commas, the first twenty."""
    return first_few(paths, _MOST_NAMED)
