"""The template's documents are true: their commands compose, and the tests that they name exist.

The documents use the worked examples, so `scripts/adopt.py` removes this file.
"""

import ast
import functools
import json
import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from reprise.cli.composing import compose_and_validate
from reprise.cli.job_configs import check_sweep
from reprise.config.json_schema import own_schema, targets_in

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
EVIDENCE = REPOSITORY / "docs" / "engine" / "evidence.md"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
COMMAND = re.compile(
    r"(?:python|--nproc-per-node \d+) scripts/(\w+\.py)"
    r"((?: (?:'[^'\n]*'|[^\s#`'\"|)])+)*)"  # two spaces end it, and what is no argument in a shell or in Markdown
)


def commands(page: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return script and arguments of each command that can be given as it stands."""
    text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
    found = [(script, tuple(shlex.split(arguments))) for script, arguments in COMMAND.findall(text)]
    # Neither placeholders, nor what docs/your-own.md and docs/start-a-project.md define: their own tests run that.
    return [
        one
        for one in found
        if not any(re.search(r"[…⇥]|=$|^(data|experiment)=\w*tumours$", argument) for argument in one[1])
    ]


COMMANDS = {
    str(page.relative_to(REPOSITORY)): found
    for page in [*DOCUMENTS, *sorted(CONFIGS.rglob("*.yaml"))]
    if (found := commands(page))
}


@functools.cache
def check(script: str, arguments: tuple[str, ...]) -> None:
    """Compose the config that a command asks for; of a verb that takes none, look for its options."""
    options = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if re.match(r"~|[\w./+]+=", argument)]
    if script != "train.py":
        declared = parser_of(script)
        assert [option for option in options if f'"{option}"' not in declared] == [], script
        overrides = overrides and ["experiment=base", *overrides]
    elif options not in ([], ["-m"]):
        return  # Hydra's own
    if "-m" in options:
        assert check_sweep(CONFIGS, overrides)
    elif overrides:
        compose_and_validate(CONFIGS, overrides)


def parser_of(script: str) -> str:
    """Return the text of a script and of the modules that it imports: one of them declares the options."""
    text = (REPOSITORY / "scripts" / script).read_text(encoding="utf-8")
    modules = [REPOSITORY / "src" / name.replace(".", "/") for name in re.findall(r"from (reprise\.\S+) import", text)]
    files = [file for path in modules for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()]
    return text + "".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("page", COMMANDS)
def test_commands_of_the_documents_compose(page: str) -> None:
    for script, arguments in COMMANDS[page]:
        check(script, arguments)


def names_of_tests(page: Path) -> set[str]:
    return set(re.findall(r"(?:tests/[\w/]*)?\btest_\w+(?:\.py|\*)?", page.read_text(encoding="utf-8")))


def test_tests_that_documents_name_exist() -> None:
    files = {str(path.relative_to(REPOSITORY)): path for path in (REPOSITORY / "tests").rglob("test_*.py")}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files.values()]
    there = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    pages = [page for page in DOCUMENTS if page.name != "start-a-project.md"]  # its tests are the reader's
    named = {name for page in pages for name in names_of_tests(page)}
    ends = [name for name in named if name.endswith(".py")]
    assert [name for name in ends if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
    assert [name for name in named.difference(ends) if not any(fnmatchcase(one, name) for one in there)] == []


def test_evidence_is_on_one_page_and_pages_for_users_name_no_test() -> None:
    assert len(names_of_tests(EVIDENCE)) > 150
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    named = {page.name: names_of_tests(page) for page in pages if page.name != "start-a-project.md"}
    assert {name: tests for name, tests in named.items() if tests} == {}


def test_evidence_covers_every_page_for_users() -> None:
    headings = "".join(line for line in EVIDENCE.read_text(encoding="utf-8").splitlines() if line.startswith("## "))
    assert [page.name for page in (REPOSITORY / "docs").glob("*.md") if f"(../{page.name})" not in headings] == []


def test_links_of_the_documents_lead_somewhere() -> None:
    links = [
        (page, link)
        for page in DOCUMENTS
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]
    assert links
    assert [link for page, link in links if not (page.parent / link).exists()] == []


def test_the_editor_knows_the_targets_of_the_examples() -> None:
    schema = json.loads((REPOSITORY / ".vscode" / "own_targets.json").read_text(encoding="utf-8"))
    named = [path for path in targets_in(CONFIGS) if path.startswith("project.")]
    examples = [one for one in schema["definitions"]["section"]["allOf"] if "project." in json.dumps(one["if"])]
    assert examples == json.loads(json.dumps(own_schema(named)))["definitions"]["section"]["allOf"]
