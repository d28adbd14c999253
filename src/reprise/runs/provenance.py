"""Collects facts about code, environment and hardware."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from reprise import __version__
from reprise.config.secrets import hidden, hidden_in_arguments, without_credentials
from reprise.errors import InputError
from reprise.files.differences import Difference, compare
from reprise.files.json_file import read_object
from reprise.files.json_values import mapping_at
from reprise.files.uv_lock import locked_files
from reprise.runs.code_files import FOLDERS, code_sha256, tree_of_code

# Environment variables that move bits; of the others nothing is recorded.
_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTHONHASHSEED",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_CBWR",
    "NVIDIA_TF32_OVERRIDE",
)
_COMPARED = ("code", "environment", "hardware")
_SECTIONS = (*_COMPARED, "command", "data", "model", "determinism", "cost")


def collect_provenance(
    overrides: Sequence[str],
    device: torch.device,
    patch: bytes | None = None,
    num_processes: int = 1,
) -> dict[str, Any]:
    """Return what is known before there is any data or model; `patch` is what `code_patch` returned."""
    packages = dict(_packages())
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": {
            "reprise": __version__,
            **_code(),
            "patch_sha256": None if patch is None else hashlib.sha256(patch).hexdigest(),
        },
        "command": {"argv": hidden_in_arguments(sys.argv), "overrides": list(overrides)},
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": packages,
            "not_as_locked": _not_as_locked(packages),
        },
        "hardware": _hardware(device) | {"num_processes": num_processes},
    }


@functools.cache
def _packages() -> dict[str, str]:
    """Return the version of every installed package."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        # Two lines are read: parsing all as messages takes a quarter of a second for two hundred packages.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        lines = dict(line.split(": ", 1) for line in text.splitlines()[:10] if line.startswith(("Name: ", "Version: ")))
        name, version = lines.get("Name") or distribution.name, lines.get("Version") or distribution.version
        if name:
            found.setdefault(name, version)  # the first on the path is the one that is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def determinism_in_force() -> dict[str, Any]:
    """Return the settings that decide about the bits of a computation, as they are now."""
    return {
        "debug_mode": ("default", "warn", "error")[torch.get_deterministic_debug_mode()],
        "num_threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        **{name: os.environ.get(name) for name in _VARIABLES},
    }


def drift(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the facts about code, environment and hardware in which two provenances differ, the recorded one first."""
    return compare(*({part: facts.get(part) for part in _COMPARED} for facts in (recorded, now)))


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the facts in a provenance file, none if there is no such file.

    Raises:
        InputError: if a section of it is not an object.
    """
    facts = read_object(path)
    sections = {name: facts[name] for name in _SECTIONS if name in facts}
    sections |= {f"data.splits.{name}": split for name, split in mapping_at(facts, "data", "splits").items()}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise InputError(f"{path}: expected an object under {name!r}, got {type(section).__name__}")
    return facts


def code_patch() -> bytes | None:
    """Return the patch from the recorded commit to the code in use; None if they are equal or there is no git.

    It holds all changes to tracked files, and files under `src`, `configs` and `scripts` that git does not track yet.
    """
    root = _git(Path(__file__).parent, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        # An index of our own, so that the user's is not touched.
        environment = {**os.environ, "GIT_INDEX_FILE": str(Path(scratch) / "index")}

        def git(*arguments: str) -> bytes:
            command = ["git", "-C", root, *arguments]
            return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True).stdout

        try:
            git("read-tree", "HEAD")
            git("add", "--update", "--", ":/", *_uv_lock_excluded())
            present = [name for name in FOLDERS if (Path(root) / name).is_dir()]
            git("add", "--", *present)
            return git("diff", "--cached", "--binary", "--full-index", "HEAD") or None
        except (OSError, subprocess.SubprocessError):
            return None


def remember_patch(patch: bytes) -> None:
    """Record in the git directory that the patch was made in this clone, so that `reproduce` applies it unasked."""
    folder = patches_made_in(Path(__file__).parent)
    if folder is not None:
        with contextlib.suppress(OSError):  # a clone that nobody may write to
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(patch).hexdigest()).touch()


def patches_made_in(clone: Path) -> Path | None:
    """Return the folder with a file for each patch that was made in a clone, named by its sha256."""
    directory = _git(clone, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return None if directory is None else Path(directory) / "reprise" / "patches"


def credentials_in(patch: bytes) -> list[str]:
    """Return the keys of YAML files that a patch sets to what looks like a credential."""
    keys, is_yaml = [], False
    for line in patch.decode(errors="replace").splitlines():
        if line.startswith("diff --git "):
            is_yaml = line.endswith((".yaml", ".yml"))
        elif is_yaml and (match := re.match(r"\+\s*([\w.-]+):\s*([^\s#]+)", line)):
            given = {match[1]: None if match[2] in ("~", "null") else match[2].strip("'\"")}
            if hidden(given) != given:
                keys.append(match[1])
    return keys


def _not_as_locked(packages: Mapping[str, str]) -> dict[str, list[str]] | None:
    """Return the installed packages that `requirements.lock` has in other versions, or not at all; None without a lock.

    The versions: first those locked, of which a package may have several, each for other versions of Python.
    """
    lock = Path(__file__).parents[3] / "requirements.lock"
    if not lock.is_file():
        return None
    locked: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
        locked.setdefault(name, []).append(version)
    ignored = {"pip", "setuptools", "uv", "wheel"}  # what installs belongs to no run
    with contextlib.suppress(OSError, ValueError, LookupError):
        ignored.add(_canonical(tomllib.loads(lock.with_name("pyproject.toml").read_text("utf-8"))["project"]["name"]))
    installed = {_canonical(name): version for name, version in packages.items()}
    return {
        name: [" or ".join(locked[name]) if name in locked else "not locked", version]
        for name, version in installed.items()
        # The CPU build 2.11.0+cpu is the release 2.11.0.
        if version.partition("+")[0] not in locked.get(name, ()) and (name in locked or name not in ignored)
    }


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _code() -> dict[str, Any]:
    root = Path(__file__).parents[1]
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        files = code_sha256(tree_of_code())
        return {"commit": None, "branch": None, "remote": None, "dirty": None, "files_sha256": files}
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "remote": without_credentials(_git(root, "config", "--get", "remote.origin.url")),
        "dirty": bool(_git(root, "status", "--porcelain", "--", ":/", *_uv_lock_excluded())),
    }


def _uv_lock_excluded() -> list[str]:
    """Return what excludes `uv.lock` from a git command; nothing if other packages are locked in it than committed."""
    lock = Path(__file__).parents[3] / "uv.lock"
    blob = _git(lock.parent, "rev-parse", "--verify", "--quiet", "HEAD:./uv.lock")
    if blob is not None:  # uv fills addresses in
        try:
            if not _locks_the_same(lock, lock.stat().st_mtime_ns, blob):
                return []
        except (OSError, UnicodeDecodeError):
            return []
    return [f":(top,exclude){_git(lock.parent, 'rev-parse', '--show-prefix') or ''}uv.lock"]


@functools.lru_cache(maxsize=2)  # each job of a sweep asks twice
def _locks_the_same(lock: Path, changed_ns: int, blob: str) -> bool:
    """Return whether a lock that was written at `changed_ns` has the packages of the one with the git id `blob`."""
    committed = _git(lock.parent, "cat-file", "blob", blob) or ""
    return locked_files(lock.read_text(encoding="utf-8")) == locked_files(committed)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _hardware(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "num_cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "device": str(device),
        "gpus": [],
        "cuda": None,
        "cudnn": None,
        "driver": None,
    }
    if device.type == "cuda":
        properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        facts["gpus"] = [{"name": p.name, "memory_bytes": p.total_memory} for p in properties]
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts["driver"] = _first_line(Path("/proc/driver/nvidia/version"))
    return facts


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return None
