"""Changes `pyproject.toml` and keeps its comments, order and form."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from reprise.errors import Failure, InputError
from reprise.tools.ownership.halves import PYPROJECT
from reprise.tools.ownership.identity import Identity
from reprise.tools.ownership.work_tree import File

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

FIRST_VERSION = "0.1.0"
_ENGINE_KEYS = ("requires-python", "dependencies", "optional-dependencies")
"""Of the table `project`; the other keys are the user's."""


def read_pyproject(file: File) -> dict[str, Any]:
    """Return the values of a `pyproject.toml`."""
    try:
        values = tomllib.loads(file.content.decode())
    except ValueError as error:
        raise InputError(f"{PYPROJECT}: not valid TOML: {error}") from None
    if not isinstance(values.get("project"), dict) or not isinstance(values["project"].get("name"), str):
        raise InputError(f"{PYPROJECT}: expected project.name")
    return values


def required_names(values: Mapping[str, Any]) -> set[str]:
    """Return the canonical names of all packages that a project needs, builds with or develops with."""
    project = values["project"]
    groups = [
        *(project.get("dependencies", []), values.get("build-system", {}).get("requires", [])),
        *project.get("optional-dependencies", {}).values(),
        *values.get("dependency-groups", {}).values(),
    ]
    names = {name for group in groups for line in group if (name := _name(line)) is not None}
    return names - {canonicalize_name(project["name"])}


def with_identity(file: File, identity: Identity) -> File:
    """Return the project's file with its own name, version, author and licence."""
    import tomlkit

    document = _document(file)
    project: Any = document["project"]
    old = project["name"]
    project["name"], project["version"] = identity.name, FIRST_VERSION
    project["description"] = f"{identity.name}: PyTorch experiments."
    author = tomlkit.inline_table()
    author.update(identity.author_fields)
    authors = tomlkit.array()
    authors.append(author)
    project["authors"] = authors
    project.pop("license", None)
    if identity.license:
        project["license"] = identity.license
    _rename_extras(document, canonicalize_name(old), identity.name)
    return _as_file(document)


def merged(ours: File, base: Mapping[str, Any], theirs: File) -> tuple[File, list[str]]:
    """Return the user's file with the changes that the template's has seen since `base`, and a line for each of them.

    What the user changed stays; a line says so where the template changed it, too. Without a base nothing is removed.
    """
    document, new = _document(ours), _document(theirs)
    name = str(document["project"]["name"])
    before = json.loads(json.dumps(base))
    for values in (before, new):
        _rename_extras(values, canonicalize_name(str(values.get("project", {}).get("name", name))), name)
    notes: list[str] = []
    for table in ("build-system", "dependency-groups", "tool"):
        if table in new:
            if table not in document:
                document[table] = new[table]
            _merge(document[table], before.get(table, {}), new[table], table, notes)
    was, now = (
        {key: values["project"][key] for key in _ENGINE_KEYS if key in values.get("project", {})}
        for values in (before, new)
    )
    _merge(document["project"], was, now, "project", notes)
    return _as_file(document), notes


def _merge(ours: Any, base: Mapping[str, Any], theirs: Mapping[str, Any], where: str, notes: list[str]) -> None:
    for key, value in theirs.items():
        place = f"{where}.{key}"
        if key not in ours:
            if key not in base:
                ours[key] = value
                notes.append(f"{place}: new")
        elif isinstance(value, Mapping) and isinstance(ours[key], Mapping):
            _merge(ours[key], base.get(key, {}), value, place, notes)
        elif _is_texts(value) and _is_texts(ours[key]):
            _merge_list(ours[key], base.get(key, []), value, place, notes)
        elif (change := _change(ours[key], base.get(key), value, place, notes)) is not None:
            ours[key] = change
    for key in [key for key in base if key not in theirs and key in ours and _plain(ours[key]) == base[key]]:
        del ours[key]
        notes.append(f"{where}.{key}: removed")


def _merge_list(ours: Any, base: Sequence[str], theirs: Sequence[str], where: str, notes: list[str]) -> None:
    mine, old = {_key(line): str(line) for line in ours}, {_key(line): line for line in base}
    for line in map(str, theirs):
        key = _key(line)
        if key not in mine:
            if key not in old:
                ours.append(line)
                notes.append(f"{where}: {line}, new")
        elif (change := _change(mine[key], old.get(key), line, where, notes)) is not None:
            ours[list(ours).index(mine[key])] = change
    kept = {_key(line) for line in theirs}
    for key in [key for key, line in old.items() if key not in kept and mine.get(key) == line]:
        del ours[list(ours).index(mine[key])]
        notes.append(f"{where}: {mine[key]}, removed")


def _change(ours: Any, base: Any, theirs: Any, where: str, notes: list[str]) -> Any:
    """Return the template's value where it takes the place of the user's, None where that stays."""
    mine, new = _plain(ours), _plain(theirs)
    if mine == new or base == new:
        return None
    if mine == base:
        notes.append(f"{where}: {mine} → {new}")
        return theirs
    notes.append(f"{where}: yours stays {mine}, the template has {new}")
    return None


def _document(file: File) -> TOMLDocument:
    try:
        import tomlkit
    except ImportError:
        raise Failure(
            "tomlkit is not installed, which changes pyproject.toml: run this as "
            "`uv run --group dev python …`, or `pip install tomlkit`"
        ) from None
    read_pyproject(file)
    return tomlkit.parse(file.content.decode())


def _as_file(document: TOMLDocument) -> File:
    import tomlkit

    return File(tomlkit.dumps(document).encode())


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _rename_extras(values: Any, old: str, new: str) -> None:
    """Give a project's own extras, which its groups and extras name, its new name."""
    for groups in (values.get("dependency-groups", {}), values.get("project", {}).get("optional-dependencies", {})):
        for group in groups.values():
            for index, line in enumerate(group):
                if isinstance(line, str) and _name(line) == old:
                    group[index] = _renamed(line, new)


def _requirement(line: object) -> Requirement | None:
    try:
        return Requirement(str(line))
    except InvalidRequirement:
        return None


def _name(line: object) -> str | None:
    requirement = _requirement(line)
    return None if requirement is None else canonicalize_name(requirement.name)


def _key(line: object) -> tuple[str, ...]:
    """Return what stays the same when the bounds of a requirement change; any other text is its own key."""
    requirement = _requirement(line)
    return (str(line),) if requirement is None else (canonicalize_name(requirement.name), str(requirement.marker))


def _renamed(line: str, name: str) -> str:
    requirement = _requirement(line)
    assert requirement is not None
    requirement.name = name
    return str(requirement)
