"""Composes configs with Hydra, and tells from which file or override a value came."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprise.config.components import check_components
from reprise.config.problems import ConfigError, InputError, Problem, unknown
from reprise.config.schema import ExperimentConfig

CONFIG_NAME = "train"


@dataclass(frozen=True)
class Composed:
    """A valid config, and Hydra's own record of how it came about."""

    config: ExperimentConfig
    overrides: tuple[str, ...]
    record: Mapping[str, str]
    """Texts of the files of `.hydra`, by file name."""


def validated(job: DictConfig) -> Composed:
    """Return the config that Hydra composed for the current job.

    Raises:
        ConfigError: with all problems, each with the file or override that it came from.
    """
    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    values, problems = _resolve(job)
    if not problems:
        if values.get("experiment_name") is None:
            options = ", ".join(_loader().get_group_options("experiment"))
            problems.append(Problem("experiment", f"nothing was chosen; choose one of: {options}"))
            values["experiment_name"] = "none"
        problems += check_components(values)
        try:
            config = ExperimentConfig.from_dict(values, problems)
        except ConfigError as error:
            problems = list(error.problems)
    if problems:
        raise ConfigError([_with_origin(problem, overrides) for problem in problems])
    record = {
        "config.yaml": OmegaConf.to_yaml(job),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})),
        "overrides.yaml": OmegaConf.to_yaml(hydra_config.overrides.task),
    }
    return Composed(config, tuple(overrides), record)


def compose_and_validate(config_dir: Path, overrides: Sequence[str]) -> Composed:
    """Compose outside of Hydra's own command line.

    Raises:
        ConfigError: as `validated`.
        HydraException: if the overrides cannot be parsed or composed.
    """
    with initialize_config_dir(str(config_dir), version_base="1.3", job_name=CONFIG_NAME):
        composed = compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        job = composed.copy()
        OmegaConf.set_struct(job, False)
        del job["hydra"]
        return validated(job)


def check_sweep(config_dir: Path, overrides: Sequence[str]) -> None:
    """Check every value that a sweep gives to a key, beside the first values of all other keys.

    Raises:
        ConfigError: for the first value that is wrong.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = [_choices(override) for override in parsed]
    first = [values[0] for values in choices]
    compose_and_validate(config_dir, first)
    for position, values in enumerate(choices):
        for value in values[1:]:
            compose_and_validate(config_dir, [*first[:position], value, *first[position + 1 :]])


def forced(config_dir: Path, overrides: Sequence[str]) -> list[str]:
    """Return the overrides such that none fails because its key does not exist; groups stay as they are."""
    with initialize_config_dir(str(config_dir), version_base="1.3", job_name=CONFIG_NAME):
        return [
            f"++{override.input_line}"
            if override.type is OverrideType.CHANGE and not _loader().get_group_options(override.key_or_group)
            else str(override.input_line)
            for override in OverridesParser.create().parse_overrides(list(overrides))
        ]


def explain(error: Exception) -> InputError:
    """Return what Hydra or OmegaConf could not do, in words for the person who typed it."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return InputError(f"{group}: there is no option {option!r}: {unknown(option, error.options)}")
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override}: cannot be parsed: {error}")
    return InputError(str(error).split("\nSee https")[0])


def origin(key: str, overrides: Sequence[str]) -> str | None:
    """Return the override or config file that set `key`, the last one if there are several, None if none did."""
    for override in reversed(OverridesParser.create().parse_overrides(list(overrides))):
        if _covers(override.key_or_group, key) or _covers(key, override.key_or_group):
            return f"command line: {str(override.input_line).removeprefix('++')}"
    loader = _loader()
    defaults = loader.compute_defaults_list(CONFIG_NAME, list(overrides), RunMode.RUN).defaults
    for default in reversed(defaults):
        if default.config_path is None or default.config_path.startswith("hydra/"):
            continue
        source = loader.repository.load_config(default.config_path)  # type: ignore[attr-defined]
        package = default.package or ""
        if source is None or not (package == "" or _covers(package, key)):
            continue
        relative = key[len(package) :].lstrip(".")
        if relative == "" or _has(source.config, relative):
            return f"{Path(source.path.removeprefix('file://')).name}/{default.config_path}.yaml"
    return None


def _resolve(job: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    try:
        values = OmegaConf.to_container(job, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        return {}, [Problem(str(error.full_key or "config"), str(error.msg or error).splitlines()[0])]
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}, []


def _with_origin(problem: Problem, overrides: Sequence[str]) -> Problem:
    key = problem.key
    source = None
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        while source is None and key:
            source = origin(key.split("[")[0], overrides)
            key = key.rpartition(".")[0]
    return Problem(problem.key, problem.message, source)


def _choices(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _covers(prefix: str, key: str) -> bool:
    return key == prefix or key.startswith((f"{prefix}.", f"{prefix}["))


def _has(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node._content:  # type: ignore[operator]
            return False
        node = node._get_node(part)
    return True


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()
