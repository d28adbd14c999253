"""The floors of the engine: imports run downwards, in no circle, and few modules stand at the top."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"

FLOORS = (
    ("reprise.errors", "reprise.randomness", "reprise.files", "reprise.text", "reprise.private_names"),
    ("reprise.config",),
    ("reprise.data", "reprise.models", "reprise.metrics", "reprise.optimization", "reprise.callbacks"),
    ("reprise.training",),
    ("reprise.runs",),
    ("reprise.trackers", "reprise.tools"),
    ("reprise.cli", "hydra_plugins"),
)
"""From the ground up. What stands on one floor may import from the same floor and from those below."""

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("reprise", "hydra_plugins")
    for path in (SOURCE / package).rglob("*.py")
}


def floor_of(module: str) -> int:
    (floor,) = (
        number
        for number, packages in enumerate(FLOORS)
        if any(module == package or module.startswith(f"{package}.") for package in packages)
    )
    return floor


def imports(module: str) -> Iterator[str]:
    """Yield the modules of the engine that a module imports, anywhere in it and for whatever purpose."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide what is imported"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


ARROWS = {module: sorted({name for name in imports(module) if name in MODULES} - {module}) for module in MODULES}


def test_every_module_stands_on_a_floor_and_imports_downwards() -> None:
    # `reprise` itself hands on what other code may import, and loads each name when it is first used.
    upwards = [
        f"{module} imports {name}"
        for module, names in ARROWS.items()
        for name in names
        if module != "reprise" and name != "reprise" and floor_of(name) > floor_of(module)
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "a circle: " + " → ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for name in ARROWS[module]:
            if name != "reprise":
                visit(name, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_few_modules_stand_at_the_top() -> None:
    assert len(list((SOURCE / "reprise").glob("*.py"))) <= 8


def test_a_class_name_occurs_once() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_every_exception_is_in_one_module() -> None:
    errors = [
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        if module != "reprise.errors"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and any(
            ast.unparse(base).endswith(("Error", "Exception", "Failure", "KeyboardInterrupt")) for base in node.bases
        )
    ]
    assert errors == []


def test_no_module_is_a_dumping_ground() -> None:
    names = {part for module in MODULES for part in module.split(".")}
    assert names & {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"} == set()
