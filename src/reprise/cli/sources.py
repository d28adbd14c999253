"""Tells from which config file or override a value came."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig

from reprise.cli.config_files import CONFIG_NAME, loader, shown
from reprise.cli.overrides import is_group, parse
from reprise.config.secrets import hidden_in_text
from reprise.private_names.omegaconf import node_of, raw_value


def origin(key: str, overrides: Sequence[str]) -> str | None:
    """Return the override or config file that set `key`, the last one if there are several, None if none did."""
    for override in reversed(parse(overrides)):
        if is_group(override.key_or_group) and override.key_or_group != key and not override.is_delete():
            continue  # it chose a file
        if _covers(override.key_or_group, key) or _covers(key, override.key_or_group):
            return hidden_in_text(f"command line: {str(override.input_line).removeprefix('++')}")
    return next((source.name for source in sources(overrides) if source.has(key)), None)


@dataclass(frozen=True)
class Source:
    """One config file, and where in the config it stands."""

    name: str
    """As messages show it, such as `configs/training/default.yaml`."""
    path: Path
    config_path: str
    """Its group and name, such as `training/default`."""
    package: str
    config: DictConfig

    def has(self, key: str) -> bool:
        return self._find(key)[0]

    def sets(self, key: str) -> bool:
        """Return whether there is a value other than null."""
        found, node = self._find(key)
        return found and not (node is None or raw_value(node) is None)

    def _find(self, key: str) -> tuple[bool, Any]:
        if not (self.package == "" or _covers(self.package, key)):
            return False, None
        return find(self.config, key[len(self.package) :].lstrip("."))


def sources(overrides: Sequence[str]) -> Iterator[Source]:
    """Yield the files that the config was composed from, the one with the last word first."""
    for default in reversed(loader().compute_defaults_list(CONFIG_NAME, list(overrides), RunMode.RUN).defaults):
        if default.config_path is None or default.config_path.startswith("hydra/"):
            continue
        source = loader().repository.load_config(default.config_path)  # type: ignore[attr-defined]
        if source is not None and isinstance(source.config, DictConfig):
            directory, config_path = Path(source.path.removeprefix("file://")), default.config_path
            path = directory / f"{config_path}.yaml"
            yield Source(shown(directory, config_path), path, config_path, default.package or "", source.config)


def _covers(prefix: str, key: str) -> bool:
    return key == prefix or key.startswith((f"{prefix}.", f"{prefix}["))


def find(config: Any, key: str) -> tuple[bool, Any]:
    """Return whether `config` has the dotted `key`, and its node, which is not resolved."""
    node = config
    for part in filter(None, key.split(".")):
        if not isinstance(node, DictConfig) or part not in list(node.keys()):
            return False, None
        node = node_of(node, part)
    return True, node
