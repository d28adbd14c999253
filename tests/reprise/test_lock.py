"""The two locks are what pyproject.toml resolves to, and serve behind any index."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from reprise.files.uv_lock import locked_files, without_addresses

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    (ROOT / ".reprise.json").exists(), reason="the locks of a project are its own; scripts/lock --check compares them"
)
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

ADMITTED = SpecifierSet(PROJECT["project"]["requires-python"])
PYTHONS = [f"3.{minor}" for minor in range(50) if ADMITTED.contains(f"3.{minor}.0")]
MACHINES = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]
ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
        "os_name": "nt" if platform == "win32" else "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }
    for python, (platform, machine) in itertools.product(PYTHONS, MACHINES)
]


def entries(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield each requirement of a lock with its hashes. A line of another kind is an error."""
    text = re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        yield Requirement(requirement), hashes


def installed_by(lock: str, environment: dict[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Return the version and hashes of each package, by name, that the lock installs in an environment."""
    packages: dict[str, tuple[str, list[str]]] = {}
    for requirement, hashes in entries(lock):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in packages, f"{requirement.name} is locked twice for {environment}"
            packages[requirement.name] = (str(requirement.specifier), sorted(hashes))
    return packages


def declared() -> list[Requirement]:
    """Return what pyproject.toml asks for: to build, to run, with each extra, to develop."""
    groups = [
        PROJECT["build-system"]["requires"],
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    named = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in named if requirement.name != PROJECT["project"]["name"]]  # our own extras


def uv() -> str:
    found = os.environ.get("UV") or shutil.which("uv")
    if found is None:
        pytest.skip("uv is not there to resolve pyproject.toml: neither UV nor PATH names it")
    return found


def committed(name: str) -> str:
    """Return a file as it is committed: uv fills addresses into the work tree's lock."""
    shown = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:./{name}"], capture_output=True, text=True)
    return shown.stdout if shown.returncode == 0 else (ROOT / name).read_text()


def check_locks(**variables: str) -> None:
    command = [sys.executable, ROOT / "scripts" / "lock", "--check"]
    checked = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_both_locks_are_what_pyproject_resolves_to() -> None:
    check_locks(UV=uv())


@pytest.mark.long
@pytest.mark.parametrize("version", ["==0.7.22", ""])
def test_oldest_and_newest_uv_find_the_locked_versions(version: str, tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=True)
    subprocess.run([tmp_path / "bin" / "pip", "install", "--quiet", f"uv{version}"], check=True)
    check_locks(UV=str(tmp_path / "bin" / "uv"))


def test_a_change_of_either_lock_is_noticed(tmp_path: Path) -> None:
    variables = os.environ | {"UV": uv()}
    for name in ("pyproject.toml", "requirements.lock", "uv.lock", "scripts/lock", "src/reprise/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src" / "reprise" / "files", tmp_path / "src" / "reprise" / "files")
    (tmp_path / "requirements.lock").write_text(LOCK.replace("joblib==", "joblib==9."))
    pyproject = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(pyproject.replace('"joblib>=1.4"', '"joblib>=1.4,<1.5"'))
    command = [sys.executable, tmp_path / "scripts" / "lock", "--check"]
    checked = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert checked.returncode == 1
    assert checked.stderr.startswith("uv.lock and requirements.lock: not what pyproject.toml resolves to")


def test_uv_lock_names_no_address() -> None:
    lock = committed("uv.lock")
    assert lock == without_addresses(lock)
    assert not re.search(r"://|www\.|[\"' ][/~]|\w:\\", lock)


def test_the_locks_agree() -> None:
    packages, hashes = locked_files((ROOT / "uv.lock").read_text())
    assert {(entry.name, str(entry.specifier).removeprefix("==")) for entry, _ in entries(LOCK)} == {
        (name, version) for name, version in packages if name != PROJECT["project"]["name"]
    }
    assert {value for _, values in entries(LOCK) for value in values} == hashes


def test_every_locked_requirement_is_one_version_with_sha256_hashes() -> None:
    locked = list(entries(LOCK))
    assert locked
    for requirement, hashes in locked:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert requirement.url is None, requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


def test_lock_names_no_index_no_address_and_no_path_of_a_machine() -> None:
    for line in LOCK.splitlines():
        assert re.match(r"# |[a-z0-9][-a-z0-9]*==| {4}--hash=sha256:", line), (
            f"neither package, hash nor comment: {line}"
        )
        assert not re.search(r"://|www\.|\s[/~]|\w:\\", line), line


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_declared_dependency_is_locked_within_its_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    for environment in ENVIRONMENTS:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version, _ = installed_by(LOCK, environment)[name]
            assert requirement.specifier.contains(version.removeprefix("=="))
