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


def validated(job: DictConfig, found: Sequence[Problem] = ()) -> Composed:
    """Return the config that Hydra composed for the current job.

    Raises:
        ConfigError: with all problems, each with the file or override that it came from, and those `found` elsewhere.
    """
    hydra_config = HydraConfig.get()
    # Not resolved: the interpolations in an override are about the job's config.
    overrides = [str(line) for line in OmegaConf.to_container(hydra_config.overrides.task, resolve=False)]
    values, problems = _resolve(job)
    for name in [name for name in values if is_group(name, _loader()) and name not in _sections()]:
        values.pop(name)
        problems.append(Problem(name, "expected `# @package _global_` as the first line of this file, and keys below it"))
    if values.get("experiment_name") is None:
        options = ", ".join(_loader().get_group_options("experiment"))
        problems.append(Problem("experiment", f"nothing was chosen; choose one of: {options}"))
        values["experiment_name"] = "none"
    problems += _aimless_nulls(values, overrides)
    problems += check_components(values)
    try:
        config = ExperimentConfig.from_dict(values, problems)
    except ConfigError as error:
        problems = list(error.problems)
    by_key = {problem.key: problem for problem in reversed(problems)}  # what was found first says most
    problems = [problem for problem in by_key.values() if not _repeats(problem, job, by_key)][::-1]
    if problems or found:
        raise ConfigError([*found, *(_with_origin(problem, overrides) for problem in problems)])
    record = {
        "config.yaml": OmegaConf.to_yaml(job),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_config})),
        "overrides.yaml": OmegaConf.to_yaml(hydra_config.overrides.task),
    }
    return Composed(config, tuple(overrides), record)


def compose_and_validate(config_dir: Path, overrides: Sequence[str], found: Sequence[Problem] = ()) -> Composed:
    """Compose outside of Hydra's own command line.

    Raises:
        ConfigError: as `validated`.
        HydraException: if the overrides cannot be parsed or composed.
    """
    with _initialized(config_dir):
        composed = compose(CONFIG_NAME, overrides=with_texts_quoted(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        job = composed.copy()
        OmegaConf.set_struct(job, False)
        del job["hydra"]
        return validated(job, found)


def check_sweep(config_dir: Path, overrides: Sequence[str], found: Sequence[Problem] = ()) -> None:
    """Check every value that a sweep gives to a key, beside the first values of all other keys.

    Raises:
        ConfigError: for the first value that is wrong.
    """
    with _initialized(config_dir):
        choices = [_choices(override) for override in parse(with_texts_quoted(overrides), _loader())]
    first = [values[0] for values in choices]
    compose_and_validate(config_dir, first, found)
    for position, values in enumerate(choices):
        for value in values[1:]:
            compose_and_validate(config_dir, [*first[:position], value, *first[position + 1 :]])


def mended(config_dir: Path, overrides: Sequence[str], is_sweep: bool) -> list[str]:
    """Return what does compose instead of overrides that do not, if all they lack is that a file lists their keys.

    Such keys are arguments that a target takes.

    Raises:
        ConfigError: with all problems of the overrides, and of the config that they make.
        HydraException: if something else is wrong.
    """
    with _initialized(config_dir):
        parsed = parse(overrides, _loader())
        problems = group_problems(parsed, _loader())
        if problems:
            raise ConfigError(problems)
        removals = [override for override in parsed if override.is_delete() and not _is_group(override.key_or_group)]
        others = [override for override in parsed if override not in removals]
        lines = forced(others, _loader())
        first = [_choices(override)[0] for override in parse(lines, _loader())]
        config = compose(CONFIG_NAME, overrides=first)
        wrong = {str(removal.input_line): removal_problem(removal, config) for removal in removals}
    lines += [line for line, problem in wrong.items() if problem is None]
    found = [problem for problem in wrong.values() if problem is not None]
    (check_sweep if is_sweep else compose_and_validate)(config_dir, lines, found)
    return [f"++{override}" if f"++{override}" in lines else override for override in overrides]


def explain(error: Exception) -> InputError:
    """Return what Hydra, OmegaConf or YAML could not do, in words for the person who typed it."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return InputError(f"{group}: there is no option {option!r}; {instead(option, error.options)}")
    if isinstance(error, OverrideParseException):
        return InputError(
            f"{error.override}: expected KEY=VALUE; a value with special characters needs quotes within quotes, "
            "\"KEY='VALUE'\""
        )
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return InputError(f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: not YAML: {error.problem}")
    return InputError(re.split(r"\nSee https|\n+Config search path", str(error))[0].strip())


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
    """Return the plain values, with null and a problem for each interpolation that leads nowhere."""
    job, problems = job.copy(), []
    while True:
        try:
            values = OmegaConf.to_container(job, resolve=True, throw_on_missing=False)
        except OmegaConfBaseException as error:
            key, message = str(error.full_key or "config"), str(error.msg or error).splitlines()[0]
            if key in {problem.key for problem in problems} or key == "config":
                raise ConfigError([*problems, Problem(key, message)]) from None
            problems.append(Problem(key, _about_interpolation(message, job)))
            OmegaConf.update(job, key, None)
        else:
            assert isinstance(values, dict)
            return {str(key): value for key, value in values.items()}, problems


def _about_interpolation(message: str, job: DictConfig) -> str:
    match = re.fullmatch(r"Interpolation key '([\w.]+)' not found", message)
    if match is None:
        return message
    keys = [name for name in _flat_keys(job) if "_target_" not in name]
    return f"${{{match[1]}}} leads to no key; {instead(match[1], keys) if _near(match[1], keys) else 'check its spelling'}"


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
