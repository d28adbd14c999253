"""What a project is called, who writes it and under which licence: checked, with a message that says what to give."""

import importlib.util
import keyword
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from reprise.errors import InputError
from reprise.tools.ownership.work_tree import Repository

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_AUTHOR = re.compile(r"(?P<name>[^<>\n\"]+?)\s*(?:<(?P<email>[^<>@\s]+@[^<>@\s]+)>)?")
_TAKEN = ("reprise", "hydra_plugins", "src", "tests", "scripts", "configs", "docs", "benchmarks", "outputs")


@dataclass(frozen=True)
class Identity:
    name: str
    """Of the project, as in `pyproject.toml`."""
    package: str
    """The Python package under `src/`."""
    author: str
    email: str | None
    license: str | None
    """An SPDX identifier; None: none chosen, nobody else may use it."""

    @property
    def author_fields(self) -> dict[str, str]:
        """The author as `pyproject.toml` and `CITATION.cff` have it."""
        return {"name": self.author, **({"email": self.email} if self.email else {})}


def identify(
    repository: Repository, name: str, requirements: Collection[str], author: str | None, license_id: str | None
) -> Identity:
    """Return the checked identity; an author who is not given is the one of git's configuration.

    `requirements`: names of the packages that the project needs, which it cannot be called itself.
    """
    package = _package(repository.path, name, requirements)
    if license_id is not None and not _LICENSE.fullmatch(license_id):
        raise InputError(f"--license: expected an SPDX identifier such as MIT or Apache-2.0, got {license_id!r}")
    if author is None:
        user, email = repository.setting("user.name"), repository.setting("user.email")
        if user is None:
            raise InputError('--author: not given, and git has no user.name: --author "Ada Lovelace <ada@example.org>"')
        author = f"{user} <{email}>" if email and _AUTHOR.fullmatch(f"{user} <{email}>") else user
    match = _AUTHOR.fullmatch(author.strip())
    if match is None:
        raise InputError(f'--author: expected "Name <address>" or a name, got {author!r}')
    return Identity(name, package, match["name"], match["email"], license_id)


def _package(root: Path, name: str, requirements: Collection[str]) -> str:
    package = re.sub(r"[-.]+", "_", name).lower()
    if not _NAME.fullmatch(name) or not package.isidentifier():
        raise InputError(
            f"NAME: expected letters, digits and - _ ., beginning with a letter, such as tumour-lab; got {name!r}"
        )
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise InputError(f"NAME: {name!r} would make a package called {package!r}, a keyword of Python")
    if package in _TAKEN or package in sys.stdlib_module_names:
        owner = "this repository" if package in _TAKEN else "Python's standard library"
        raise InputError(f"NAME: {name!r} would make a package called {package!r}, which {owner} has already")
    if canonicalize_name(name) in requirements or _is_installed(root, package):
        raise InputError(f"NAME: {name!r} is the name of an installed package; the two would hide each other")
    return package


def _is_installed(root: Path, package: str) -> bool:
    spec = importlib.util.find_spec(package)
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not all(Path(place).resolve().is_relative_to(root.resolve()) for place in places)
