"""requirements.lock is what pyproject.toml resolves to, and it serves behind any index."""

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
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
        PROJECT["dependency-groups"]["dev"],
    ]
    named = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in named if requirement.name != PROJECT["project"]["name"]]  # our own extras


def test_lock_is_what_pyproject_resolves_to() -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not there to resolve pyproject.toml: neither UV nor PATH names it")
    resolution = subprocess.run(
        [ROOT / "scripts" / "lock", "--print"], env=os.environ | {"UV": uv}, capture_output=True, text=True
    )
    assert resolution.returncode == 0, resolution.stderr
    # Not compared as text: versions of uv write one and the same marker in different ways.
    for environment in ENVIRONMENTS:
        assert installed_by(LOCK, environment) == installed_by(resolution.stdout, environment), (
            "requirements.lock, uv.lock and pyproject.toml are out of step: run scripts/lock, which writes both locks"
        )


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
