"""Takes the engine's half of another version of the template: `python scripts/update.py`.

The two repositories need no common history: files are compared with those that `.reprise.json` names. Nothing of the
fetched tree is run; it is read with git and written.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reprise.config.secrets import without_credentials
from reprise.errors import Failure, InputError
from reprise.tools.ownership.adopting import EXAMPLES, address_of_template
from reprise.tools.ownership.halves import PYPROJECT, RECORD, is_engine, is_shared
from reprise.tools.ownership.pyproject import merged, read_pyproject
from reprise.tools.ownership.record import Record, read_record, recorded_files
from reprise.tools.ownership.work_tree import Entry, File, Repository, Target, clone_at, listed

_VERSION_FILE = "src/reprise/__init__.py"
_LOCK_SCRIPT = "scripts/lock"


@dataclass(frozen=True)
class Update:
    repository: Repository
    source: str
    before: Record
    after: Record
    target: Target
    """What changes; without the record, nothing if the project is up to date."""
    added: frozenset[str]
    lost: tuple[str, ...]
    """Engine files with changes of the user, which the update would replace or remove."""
    kept: tuple[str, ...]
    """Shared files that both sides changed; the user's stay."""
    notes: tuple[str, ...]
    """What changes in `pyproject.toml`, a line each."""
    can_lock: bool
    """Whether the script that renews the locks is the one that the user has already."""

    def text(self) -> str:
        """Return what it will do."""
        assert self.after.commit is not None
        title = (
            f"Reprise {self.before.version} → {self.after.version}, commit {self.after.commit[:12]} of {self.source}"
        )
        if not self.target:
            return f"{title}: nothing changes"
        removed = sorted(path for path, file in self.target.items() if file is None)
        changed = sorted(self.target.keys() - self.added - set(removed) - {RECORD})
        lines = [title]
        for verb, paths in (("changes", changed), ("adds", sorted(self.added)), ("removes", removed)):
            if paths:
                lines.append(f"  {verb} {len(paths)} {'file' if len(paths) == 1 else 'files'}: {listed(paths)}")
        lines += [f"  {PYPROJECT}: {note}" for note in self.notes]
        if self.kept:
            lines.append(f"  keeps your version, though the template's is new: {listed(self.kept)}")
        if self.lost:
            lines.append(f"  would lose your changes in: {', '.join(self.lost)}")
        return "\n".join(lines)

    def refuse_losses(self) -> None:
        """
        Raises:
            InputError: naming every file of the engine with changes that would be lost.
        """
        if self.lost:
            raise InputError(
                f"{', '.join(self.lost)}: changed here, and the engine's. Move your changes to a file of your own, or "
                "give --overwrite-edits: the last commit still has them."
            )

    def carry_out(self) -> str:
        """Write the new engine, renew the locks, and return what is left to do.

        Raises:
            Failure: if the locks cannot be renewed; all else is done then.
        """
        root = self.repository.path
        self.repository.apply({path: file for path, file in self.target.items() if path == PYPROJECT})
        failure = None
        left = "Look at it with `git status`, run `uv run --group dev pytest -n auto`, then commit it."
        if PYPROJECT in self.target and self.can_lock:
            failure = _renew_locks(root)
        # The modules that run now come last, so that the same command still starts after an interruption.
        loaded = {
            str(Path(place).resolve())
            for module in list(sys.modules.values())
            if (place := getattr(module, "__file__", None))
        }
        self.repository.apply(
            self.target, last={path for path in self.target if str((root / path).resolve()) in loaded}
        )
        if failure is not None:
            raise Failure(f"The engine is updated, but {_LOCK_SCRIPT} failed: {failure}\nRun it again. {left}")
        if PYPROJECT in self.target and not self.can_lock:
            return f"{PYPROJECT} has changed and the locks have not: run {_LOCK_SCRIPT}. {left}"
        return left


def plan_update(root: Path, source: str | None, ref: str | None) -> Update:
    """Return what changes if the project at `root` takes the engine of `ref` in the repository `source`.

    Raises:
        InputError: if the project is not adopted, has uncommitted changes, or `source` is not the template.
    """
    repository = clone_at(root)
    tree = repository.tree("HEAD")
    if RECORD not in tree:
        raise InputError(f"{root}: not an adopted project: `git pull` updates a clone; scripts/adopt.py makes it yours")
    before = read_record(repository.files({RECORD: tree[RECORD]})[RECORD])
    source = source or repository.setting("remote.template.url") or before.template
    if source is None:
        raise InputError("--from: expected the template's address or path; no remote is called `template`")
    source = repository.setting(f"remote.{source}.url") or source
    with tempfile.TemporaryDirectory() as scratch:
        fetched = _fetch(Path(scratch), root, source, ref or "HEAD")
        return _plan(repository, tree, before, fetched, source)


def _plan(repository: Repository, ours: dict[str, Entry], before: Record, fetched: Repository, source: str) -> Update:
    theirs = fetched.tree("refs/fetched")
    if EXAMPLES not in theirs or _VERSION_FILE not in theirs or PYPROJECT not in theirs:
        what = "a project made from the template" if RECORD in theirs else "something else"
        raise InputError(f"--from: {source} is {what}, not the template: it has no {EXAMPLES}")
    known = before.files if before.commit else _in_history(before.files, fetched)

    def is_edited(path: str) -> bool:
        return ours[path].blob != known.get(path) and ours[path] != theirs.get(path)

    wanted, kept = {}, []
    for path, entry in theirs.items():
        if is_engine(path) or (is_shared(path) and path not in ours and path not in before.files):
            wanted[path] = entry
        elif is_shared(path) and path in ours:
            if not is_edited(path):
                wanted[path] = entry
            elif entry.blob != before.files.get(path):
                kept.append(path)
    gone = [
        path
        for path in before.files.keys() - theirs.keys()
        if path in ours and (is_engine(path) or (is_shared(path) and not is_edited(path)))
    ]
    lost = [path for path in (*wanted, *gone) if path in ours and is_edited(path)]
    new = {path: entry for path, entry in wanted.items() if ours.get(path) != entry}
    target: dict[str, File | None] = {**dict.fromkeys(gone), **fetched.files(new)}

    shared = fetched.files({path: theirs[path] for path in (PYPROJECT, _VERSION_FILE)})
    mine = repository.files({PYPROJECT: ours[PYPROJECT]})[PYPROJECT]
    base = before.pyproject if PYPROJECT in known else {}
    project, notes = merged(mine, base, shared[PYPROJECT])
    if project != mine:
        target[PYPROJECT] = project
    after = Record(
        version=_version(shared[_VERSION_FILE]),
        commit=fetched.git("rev-parse", "refs/fetched^{commit}").decode().strip(),
        template=address_of_template(source) or before.template,
        files=recorded_files(theirs),
        pyproject=read_pyproject(shared[PYPROJECT]),
    )
    if target or replace(after, commit=None) != replace(before, commit=None):
        target[RECORD] = after.file()
    repository.refuse_uncommitted(target, "update")
    return Update(
        repository=repository,
        source=without_credentials(source) or source,
        before=before,
        after=after,
        target=target,
        added=frozenset(new.keys() - ours.keys()),
        lost=tuple(sorted(lost)),
        kept=tuple(sorted(kept)),
        notes=tuple(notes),
        can_lock=ours.get(_LOCK_SCRIPT) == theirs.get(_LOCK_SCRIPT) and _uv() is not None,
    )


def _in_history(files: Mapping[str, str], fetched: Repository) -> Mapping[str, str]:
    """Return the files that the template ever had so: an adopted copy may have been edited before it was adopted."""
    if fetched.git("rev-parse", "--is-shallow-repository").strip() == b"true":
        return files  # there is no history to ask
    fetched.git("fetch", "--quiet", "origin")
    history = set(fetched.git("rev-list", "--objects", "--no-object-names", "--all").decode().split())
    return {path: blob for path, blob in files.items() if blob in history}


def _fetch(scratch: Path, root: Path, source: str, ref: str) -> Repository:
    """Return a bare repository in which refs/fetched is the wanted commit; the user's repository stays as it is."""
    if source.startswith("-") or ref.startswith("-"):
        raise InputError(f"expected an address and a branch, tag or commit, got {source!r} and {ref!r}")
    local = Path(os.path.expanduser(source))
    place = str((root / local).resolve()) if (root / local).exists() else source
    fetched = Repository(scratch)
    fetched.git("init", "--quiet", "--bare")
    fetched.git("remote", "add", "origin", place)
    try:
        fetched.git("fetch", "--quiet", "--no-tags", "--update-shallow", "origin", f"+{ref}:refs/fetched")
    except InputError as error:
        raise InputError(f"{without_credentials(source)}: {ref} cannot be fetched: {error}") from None
    return fetched


def _version(file: File) -> str:
    match = re.search(r'^__version__ = "([^"\n]+)"', file.content.decode(errors="replace"), re.MULTILINE)
    if match is None:
        raise InputError(f"{_VERSION_FILE}: the fetched template does not say __version__")
    return match[1]


def _uv() -> str | None:
    return os.environ.get("UV") or shutil.which("uv")


def _renew_locks(root: Path) -> str | None:
    """Run the user's own script for the locks; return what failed."""
    environment: Mapping[str, str] = {**os.environ, "UV": _uv() or "uv"}
    done = subprocess.run([root / _LOCK_SCRIPT], cwd=root, env=environment, capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).strip() or f"exit code {done.returncode}" if done.returncode else None
