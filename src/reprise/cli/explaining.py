"""Tells how a config key came to its value: each file and override that set it, the one with the last word last."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprise.cli.composing import compose_job
from reprise.cli.config_files import CONFIG_NAME, initialized, loader
from reprise.cli.mending import mended_if_refused
from reprise.cli.overrides import is_group, missing_part, parse, with_texts_quoted
from reprise.cli.sources import Source, find, sources
from reprise.config import ExperimentConfig
from reprise.config.checking import show
from reprise.errors import InputError
from reprise.files.differences import compare
from reprise.private_names.omegaconf import MISSING, raw_value


class Setting(NamedTuple):
    """One place that says something about a key."""

    value: str
    place: str
    """`configs/training/default.yaml:6`, or the override."""
    chosen_by: str
    """What made this file a part of the config; empty where nothing had to."""


@dataclass(frozen=True)
class Explanation:
    """One key: its value, and the settings that led to it, the last of which holds."""

    key: str
    value: str
    settings: Sequence[Setting]

    def text(self) -> str:
        widths = [max((len(setting[i]) for setting in self.settings), default=0) for i in range(2)]
        lines = [
            f"  {setting.value:<{widths[0]}}  {setting.place:<{widths[1]}}  {setting.chosen_by}".rstrip()
            for setting in self.settings
        ]
        return "\n".join([f"{self.key} = {self.value}", *lines])


def explain_key(config_dir: Path, key: str, overrides: Sequence[str]) -> list[Explanation]:
    """Return the explanation of a key, and of those that it takes its value from; for a section, of each key in it.

    Raises:
        InputError: if the config has no such key, or the overrides make none.
    """
    return mended_if_refused(
        lambda lines: _explanations(config_dir, key, lines), config_dir, with_texts_quoted(overrides)
    )


def _explanations(config_dir: Path, key: str, overrides: Sequence[str]) -> list[Explanation]:
    with initialized(config_dir):
        config = compose_job(overrides)
        places = _Places(overrides)
        explanations: list[Explanation] = []
        waiting = _keys(config, key)
        for leaf in waiting:
            settings = list(places.settings(leaf))
            found, _ = find(config, leaf)
            if not found:
                settings += _default(leaf)
                if not settings:
                    raise InputError(f"{key}: {missing_part(config, key)}")
            explanations.append(Explanation(leaf, _value(config, leaf) if found else settings[-1].value, settings))
            sources_of_value = re.findall(r"\$\{([\w.]+)\}", settings[-1].value if settings else "")
            waiting += [other for other in sources_of_value if other not in waiting]
        return explanations


def _keys(config: DictConfig, key: str) -> list[str]:
    """Return the key, or those in it if it is a section that is not empty."""
    found, node = find(config, key)
    if not found or not isinstance(node, DictConfig) or raw_value(node) is None or not node:
        return [key]
    leaves = compare({}, {key: OmegaConf.to_container(node, resolve=False)})
    return [leaf.key for leaf in leaves if leaf.key]


def _value(config: DictConfig, key: str) -> str:
    try:
        value = OmegaConf.select(config, key, throw_on_missing=False)
    except OmegaConfBaseException as error:
        return f"an error: {str(error).splitlines()[0]}"
    return show(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)


def _default(key: str) -> list[Setting]:
    """Return what stands in for a key of the schema that no file and no override sets."""
    schema = ExperimentConfig.from_dict({"data": {}, "model": {}}).to_dict()
    value = {leaf.key: leaf.second for leaf in compare({}, schema)}
    return [Setting(show(value[key]), "src/reprise/config/schema.py", "")] if key and key in value else []


class _Places:
    """All files and overrides that a config was made of."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self._overrides = parse(overrides)
        self._sources = list(sources(overrides))[::-1]
        defaults = loader().compute_defaults_list(CONFIG_NAME, list(overrides), RunMode.RUN)
        self._defaults = {default.config_path: default for default in defaults.defaults}
        self._choices = defaults.overrides.override_metadata

    def settings(self, key: str) -> Iterator[Setting]:
        """Yield what each file and then each override says about a key, in the order in which they count."""
        for source in self._sources:
            value, set_key = _said(source, key)
            if value is not None:
                line = _line(source, set_key)
                yield Setting(value, source.name + (f":{line}" if line else ""), self._chosen_by(source))
        for override in self._overrides:
            value = self._overridden(override, key)
            if value is not None:
                yield Setting(value, f"command line: {override.input_line}", "")

    def _overridden(self, override: Override, key: str) -> str | None:
        name = override.key_or_group
        if is_group(name) and not override.is_delete():
            return None  # it chose a file
        if name != key and not key.startswith(f"{name}."):
            return None
        if override.is_delete():
            return "removed"
        value = override.value()
        for part in key.removeprefix(name).split(".")[1:]:
            if not isinstance(value, dict):
                return f"removed ({name}: {show(value)})"
            if part not in value:
                return None
            value = value[part]
        return show(OmegaConf.to_object(OmegaConf.create([value]))[0])  # type: ignore[index]

    def _chosen_by(self, source: Source) -> str:
        default: ResultDefault = self._defaults[source.config_path]
        group = source.config_path.rpartition("/")[0]
        choice = self._choices.get(group)
        if choice is not None and choice.external_override:
            line = next(o.input_line for o in reversed(self._overrides) if o.key_or_group == group)
            return f"chosen by {line}"
        by = choice.containing_config_path if choice is not None else default.parent
        if default.primary or by is None:
            return ""
        return f"chosen in {next(other.name for other in self._sources if other.config_path == by)}"


def _line(source: Source, key: str) -> int | None:
    """Return the line of a file in which it sets a key, from 1."""
    if not source.path.is_file():
        return None
    node: Any = yaml.compose(source.path.read_text(encoding="utf-8"))
    line = None
    for part in filter(None, key.removeprefix(source.package).split(".")):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        name, node = next(((name, value) for name, value in pairs if name.value == part), (None, None))
        if name is None:
            return None
        line = name.start_mark.line + 1
    return line


def _said(source: Source, key: str) -> tuple[str | None, str]:
    """Return what a file says about a key, None if nothing, and the key at which it says it.

    A file that sets a section to null, say, removes the keys in it.
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if not source.has(name) or not (source.package == "" or name.startswith(source.package)):
            continue
        _, node = find(source.config, name.removeprefix(source.package).lstrip("."))
        if name == key:
            return show(OmegaConf.to_container(node) if OmegaConf.is_config(node) else raw_value(node)), name
        is_section = isinstance(node, DictConfig) and raw_value(node) not in (None, MISSING)
        return (None if is_section else f"removed ({name}: {show(raw_value(node))})"), name
    return None, key
