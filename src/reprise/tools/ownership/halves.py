"""Which paths are the engine's, which are shared, and that all others are the user's: the only list of them.

docs/start-a-project.md shows the same list to users.
"""

ENGINE = (
    *("src/reprise", "src/hydra_plugins", "tests/reprise", "scripts", "benchmarks", "docs"),
    ".vscode/schemas",
)
"""An update replaces the files that the template has here; files that only the user has here stay."""

SHARED = (
    *(".ci", ".devcontainer", ".github", ".vscode/extensions.json", ".vscode/settings.json"),
    *(".dockerignore", ".gitignore", ".pre-commit-config.yaml", "CONTRIBUTING.md", "Dockerfile"),
)
"""An update replaces a file here as long as nobody edited it; an edited one stays, and the update names it."""

PYPROJECT = "pyproject.toml"
"""Merged key by key: the engine's requirements and tool settings change, the user's stay."""

LOCKS = ("requirements.lock", "uv.lock")
"""Generated from `pyproject.toml`."""

RECORD = ".reprise.json"
"""Which engine an adopted project has; written by both commands."""


def is_engine(path: str) -> bool:
    return _is_under(path, ENGINE)


def is_shared(path: str) -> bool:
    return _is_under(path, SHARED)


def _is_under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
