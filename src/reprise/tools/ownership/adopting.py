"""Makes a clone of the template a project of its own: `python scripts/adopt.py NAME`."""

import datetime
import json
import re
import string
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import reprise
from reprise.config.secrets import without_credentials
from reprise.errors import InputError
from reprise.text.suggestions import unknown
from reprise.tools.ownership.halves import ENGINE, PYPROJECT, RECORD
from reprise.tools.ownership.identity import Identity, identify
from reprise.tools.ownership.pyproject import FIRST_VERSION, read_pyproject, required_names, with_identity
from reprise.tools.ownership.record import Record, recorded_files
from reprise.tools.ownership.work_tree import Entry, File, Repository, Target, clone_at, listed, text_file

EXAMPLES = "src/project/examples.yaml"
"""In the template: which files belong to which worked example."""
_PACKAGE, _TESTS = "src/project/", "tests/project/"
_FIRST_EXPERIMENT = "configs/experiment/base.yaml"
_OWN_TARGETS = ".vscode/own_targets.json"
_STARTER = Path(__file__).parent / "starter"


@dataclass(frozen=True)
class Adoption:
    repository: Repository
    identity: Identity
    kept: tuple[str, ...]
    target: Target

    def text(self) -> str:
        """Return what it will do, in a few lines."""
        identity, root = self.identity, self.repository.path
        removed = sorted(path for path, file in self.target.items() if file is None)
        written = sorted(path for path, file in self.target.items() if file is not None)
        return "\n".join(
            [
                f"{root} becomes the project {identity.name} {FIRST_VERSION}:",
                f"  author    {identity.author}" + (f" <{identity.email}>" if identity.email else ""),
                f"  licence   {identity.license or 'none chosen (--license MIT), so nobody else may use it'}",
                f"  package   src/{identity.package}, tests in tests/{identity.package}",
                f"  examples  {', '.join(self.kept) or 'none; experiment=base trains a small model to start with'}",
                f"  removes   {len(removed)} files: {listed(removed)}",
                f"  writes    {len(written)} files: {listed(written)}",
                f"  untouched {', '.join(ENGINE)}",
            ]
        )

    def carry_out(self) -> None:
        # pyproject.toml last: `uv run` then finds the package that it names.
        self.repository.apply(self.target, last=(PYPROJECT,))


def plan_adoption(
    root: Path, name: str, *, keep: Collection[str] = (), author: str | None = None, license_id: str | None = None
) -> Adoption:
    """Return what makes the clone at `root` one's own. It depends on the last commit and the arguments alone.

    Raises:
        InputError: if an argument is wrong, something is not committed or the clone is adopted already.
    """
    repository = clone_at(root)
    tree = repository.tree("HEAD")
    if EXAMPLES not in tree:
        why = "it has been adopted already" if RECORD in tree else "it is no clone of the template"
        raise InputError(f"{EXAMPLES}: not in the last commit of {root}: {why}")
    examples = yaml.safe_load(_read(repository, tree, EXAMPLES).content)
    if wrong := [example for example in keep if example not in examples["examples"]]:
        raise InputError(f"--keep {wrong[0]}: {unknown(wrong[0], examples['examples'])}")
    pyproject = _read(repository, tree, PYPROJECT)
    values = read_pyproject(pyproject)
    identity = identify(repository, name, required_names(values), author, license_id)

    target = _without_examples(repository, tree, examples, keep, identity.package)
    target |= _own_documents(identity)
    target[PYPROJECT] = with_identity(pyproject, identity)
    target[RECORD] = Record(
        version=reprise.__version__,
        commit=None,
        template=address_of_template(
            repository.setting("remote.template.url") or repository.setting("remote.origin.url")
        ),
        files=recorded_files(tree),
        pyproject=values,
    ).file()
    target = {path: file for path, file in target.items() if file is not None or path in tree}
    repository.refuse_uncommitted(target, "adoption")
    return Adoption(repository, identity, tuple(keep), target)


def _without_examples(
    repository: Repository, tree: dict[str, Entry], examples: dict[str, Any], keep: Collection[str], package: str
) -> dict[str, File | None]:
    """Return the user's half under its new name, without the examples that are not kept."""
    kept = {path for example in keep for path in examples["examples"][example]}
    gone = {path for files in examples["examples"].values() for path in files} - kept | set(examples["template"])
    target: dict[str, File | None] = dict.fromkeys(gone)
    mine = {
        path: entry
        for path, entry in tree.items()
        if path.startswith((_PACKAGE, _TESTS, "configs/", _OWN_TARGETS)) and path not in gone
    }
    starter = [_STARTER / "tests" / "test_base.py"]
    if _FIRST_EXPERIMENT in gone:
        starter += [*_STARTER.glob("project/*/*.py"), *_STARTER.glob("configs/*/*.yaml")]
    files = repository.files(mine)
    files |= {_place_of(path): File(path.read_bytes()) for path in starter}
    modules = {
        path.removeprefix(_PACKAGE).split("/")[0].removesuffix(".py") for path in files if path.startswith(_PACKAGE)
    }
    for path, file in files.items():
        if path == "configs/train.yaml":
            file = _with_defaults(file, examples, kept)
        if path == _OWN_TARGETS:
            file = _with_targets(file, gone)
        new = re.sub(r"^(src|tests)/project/", rf"\1/{package}/", path)
        if new != path:
            target[path] = None
            if new in tree:
                raise InputError(f"NAME: {new} is there already")
        file = _with_package(file, modules - {"__init__"}, package)
        if new != path or path not in tree or file != files[path] or path not in mine:
            target[new] = file
    return target


def _place_of(path: Path) -> str:
    place = path.relative_to(_STARTER).as_posix()
    return re.sub(r"^project/", _PACKAGE, re.sub(r"^tests/", _TESTS, place))


def _with_package(file: File, modules: Iterable[str], package: str) -> File:
    """Return a file in which imports, dotted paths and paths name the package by its new name."""
    try:
        text = file.content.decode()
    except UnicodeDecodeError:
        return file
    names = "|".join(sorted(map(re.escape, modules)))
    text = re.sub(rf"\bproject\.(?=(?:{names})\b)", f"{package}.", text)
    text = re.sub(r"\b(from|import) project\b", rf"\1 {package}", text)
    text = re.sub(r"\b(src|tests)/project\b", rf"\1/{package}", text)
    return File(text.encode(), file.is_executable)


def _with_defaults(file: File, examples: dict[str, Any], kept: Collection[str]) -> File:
    """Return `train.yaml` with defaults that are still there, and no word of examples that are not."""
    text = file.content.decode()
    if _FIRST_EXPERIMENT not in kept:
        text = re.sub(r"(?m)^(  - data: ).*$", r"\1spirals", text)
        text = re.sub(r"(?m)^(  - model: ).*$", r"\1mlp", text)
    experiments = [Path(path).stem for path in sorted(kept) if re.fullmatch(r"configs/experiment/[^/]+", path)]
    names = ", ".join(dict.fromkeys(["base", *experiments]))
    text = re.sub(r"(?m)^(  - experiment: null # what people run: ).*$", rf"\1{names}", text)
    text = text.replace("(model=bert_tiny)", "(training/scheduler=cosine)")
    return File(text.encode())


def _with_targets(file: File, gone: Collection[str]) -> File:
    """Return the editor's schema of the user's targets without those of modules that are gone."""
    schema = json.loads(file.content)
    section = schema["definitions"]["section"]
    removed = tuple(f"{path.removeprefix('src/').removesuffix('.py').replace('/', '.')}." for path in gone)
    section["allOf"] = [
        entry for entry in section["allOf"] if not entry["if"]["properties"]["_target_"]["const"].startswith(removed)
    ]
    if not section["allOf"]:
        del section["allOf"]  # an empty one is no valid schema
    return text_file(json.dumps(schema, indent=1, ensure_ascii=False) + "\n")


def _own_documents(identity: Identity) -> dict[str, File | None]:
    values = {
        "name": identity.name,
        "package": identity.package,
        "version": FIRST_VERSION,
        "engine": reprise.__version__,
        "authors": json.dumps([identity.author_fields], ensure_ascii=False),  # JSON is YAML too
    }
    documents = {
        name: string.Template((_STARTER / name).read_text(encoding="utf-8")).substitute(values)
        for name in ("README.md", "CHANGELOG.md", "CITATION.cff")
    }
    if identity.license:
        documents["CITATION.cff"] += f'license: "{identity.license}"\n'
    license_file, year = None, datetime.datetime.now(datetime.UTC).year
    if identity.license == "MIT":
        terms = (Path(reprise.__file__).parent / "LICENSE").read_text(encoding="utf-8")
        license_file = text_file(
            re.sub(r"Copyright \(c\) .*", lambda _: f"Copyright (c) {year} {identity.author}", terms)
        )
    elif identity.license:
        license_file = text_file(
            f"Copyright (c) {year} {identity.author}\n\nSPDX-License-Identifier: {identity.license}\n\n"
            f"The terms: https://spdx.org/licenses/{identity.license}.html\n"
            "Put their full text here before you publish.\n"
        )
    return {**{name: text_file(text) for name, text in documents.items()}, "LICENSE": license_file}


def address_of_template(address: str | None) -> str | None:
    """Return what of a remote's address can be recorded: no credentials, and no path of this machine."""
    if address is None or not re.match(r"\w+://|[\w.-]+@[\w.-]+:", address) or address.startswith("file:"):
        return None
    return without_credentials(address)


def _read(repository: Repository, tree: dict[str, Entry], path: str) -> File:
    if path not in tree:
        raise InputError(f"{path}: not in the last commit of {repository.path}")
    return repository.files({path: tree[path]})[path]
