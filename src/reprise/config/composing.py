"""Composes configs with Hydra and validates them; all problems come together, each with its origin."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from reprise.config.components import check_components
from reprise.config.origins import find, origin, sources
from reprise.config.overrides import (
    forced,
    group_problems,
    is_group,
    missing_part,
    parse,
    removal_problem,
    with_texts_quoted,
)
from reprise.config.problems import ConfigError, InputError, Problem, instead
from reprise.config.schema import ExperimentConfig
from reprise.config.secrets import hidden, hidden_in_text, secrets_of

CONFIG_NAME = "train"


@dataclass(frozen=True)
class Composed:
    """A valid config, and Hydra's own record of how it came about, without credentials."""

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
    task_overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = [str(line) for line in task_overrides] if isinstance(task_overrides, list) else []
    config = _valid(job, overrides, found)
    secrets = list(secrets_of(config.to_dict()))
    record = {
        "config.yaml": _recorded(job, secrets),
        "hydra.yaml": _recorded(HydraConfig.instance().cfg, secrets),
        "overrides.yaml": _recorded(hydra_config.overrides.task, secrets),
    }
    return Composed(config, tuple(hidden_in_text(line, secrets) for line in overrides), record)


def _recorded(config: Any, secrets: Sequence[str]) -> str:
    """Return a config, not resolved, as YAML without credentials."""
    text = OmegaConf.to_yaml(OmegaConf.create(hidden(OmegaConf.to_container(config, resolve=False))))
    return hidden_in_text(text, secrets)


def _valid(job: DictConfig, overrides: Sequence[str], found: Sequence[Problem] = ()) -> ExperimentConfig:
    values, problems = _resolve(job)
    for name in [name for name in ("experiment", "debug", "sweep") if name in values]:
        del values[name]
        problems.append(Problem(name, "the file chosen must begin with the line `# @package _global_`, and hold keys"))
    if values.get("experiment_name") is None and "experiment_name" not in {problem.key for problem in problems}:
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
    return config


def compose_and_validate(config_dir: Path, overrides: Sequence[str], found: Sequence[Problem] = ()) -> Composed:
    """Compose outside of Hydra's own command line.

    Raises:
        ConfigError: as `validated`.
        HydraException: if the overrides cannot be parsed or composed.
    """
    with initialized(config_dir):
        return validated(_compose_job(with_texts_quoted(overrides)), found)


def _compose_job(overrides: Sequence[str]) -> DictConfig:
    composed = compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    job = composed.copy()
    OmegaConf.set_struct(job, False)
    del job["hydra"]
    return job


def with_overrides(
    config: ExperimentConfig, overrides: Sequence[str], trusted_packages: Sequence[str]
) -> ExperimentConfig:
    """Return a saved config with the values that KEY=VALUE overrides give.

    Raises:
        ConfigError: with all that is wrong in the result, and for keys that say where the run lies.
    """
    values = config.to_dict()
    problems: list[Problem] = []
    try:
        parsed = parse(with_texts_quoted(overrides))
    except OverrideParseException as error:
        raise explain(error) from None
    for override in parsed:
        *sections, name = override.key_or_group.split(".")
        section: Any = values
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if override.is_delete() or override.is_sweep_override() or not isinstance(section, dict):
            problems.append(Problem(override.key_or_group, f"expected KEY=VALUE, got {override.input_line!r}"))
        elif override.key_or_group in ("experiment_name", "run_id", "sweep_id", "output_dir"):
            problems.append(Problem(override.key_or_group, "says where the run lies, and stays as it is"))
        else:
            section[name] = override.value()
    trusted = values | {"trusted_packages": list(trusted_packages)}
    problems += check_components(trusted)
    return ExperimentConfig.from_dict(values, problems)


class JobConfigs:
    """Checks the configs of many jobs, while Hydra is initialized.

    Hydra composes once for each choice of groups, which takes a tenth of a second; plain values are set in copies of
    that, which takes a tenth of that.
    """

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], tuple[DictConfig, Any]] = {}
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._is_group: dict[str, bool] = {}

    def config(self, overrides: Sequence[str], found: Sequence[Problem] = ()) -> ExperimentConfig:
        """Return the config that these overrides make.

        Raises:
            ConfigError: with all problems, and those `found` elsewhere.
            HydraException: if the overrides cannot be composed.
        """
        lines = with_texts_quoted(overrides)
        try:
            return _valid(self._quickly_composed(lines), lines, found)
        except (ConfigError, OmegaConfBaseException):
            return _valid(_compose_job(lines), lines, found)  # Hydra's own word counts

    def _quickly_composed(self, lines: Sequence[str]) -> DictConfig:
        self._parsed |= {line: self._is_value(line) for line in lines if line not in self._parsed}
        others = tuple(line for line in lines if not self._parsed[line][1])
        if others not in self._composed:
            self._composed[others] = _compose_job(others), HydraConfig.instance().cfg
            OmegaConf.set_struct(self._composed[others][0], True)
        composed, HydraConfig.instance().cfg = self._composed[others]
        job = composed.copy()
        for override, is_value in (self._parsed[line] for line in lines):
            if is_value:
                OmegaConf.update(job, override.key_or_group, override.value(), merge=True)
        return job

    def _is_value(self, line: str) -> tuple[Override, bool]:
        """Return an override, and whether it gives a plain value to a key that is there."""
        (override,) = parse([line])
        key = override.key_or_group
        if key not in self._is_group:
            self._is_group[key] = is_group(key, _loader())
        is_value = (
            override.type is OverrideType.CHANGE
            and override.package is None
            and not override.is_hydra_override()
            and isinstance(override.value(), str | int | float | QuotedString | None)
            and not self._is_group[key]
        )
        return override, is_value


def check_sweep(config_dir: Path, overrides: Sequence[str], found: Sequence[Problem] = ()) -> list[ExperimentConfig]:
    """Check every value that a sweep gives to a key, beside the first values of all other keys; return these configs.

    Raises:
        ConfigError: for the first value that is wrong.
    """
    configs = JobConfigs()
    with initialized(config_dir):
        values = _values(with_texts_quoted(overrides))
        configs.config([options[0] for options in values.values()], found)
        values = _values(_preset()) | values
        first = [options[0] for options in values.values()]
        jobs = [first]
        for position, options in enumerate(values.values()):
            jobs += [[*first[:position], option, *first[position + 1 :]] for option in options[1:]]
        return [configs.config(job) for job in jobs]


def mended(config_dir: Path, overrides: Sequence[str], is_sweep: bool) -> list[str]:
    """Return what does compose instead of overrides that do not, if all they lack is that a file lists their keys.

    Such keys are arguments that a target takes.

    Raises:
        ConfigError: with all problems of the overrides, and of the config that they make.
        HydraException: if something else is wrong.
    """
    with initialized(config_dir):
        parsed = parse(overrides, _loader())
        for override in parsed:
            if not override.key_or_group:
                raise InputError(f"{override.input_line}: expected KEY=VALUE")
        problems = group_problems(parsed, _loader())
        if problems:
            raise ConfigError(problems)
        removals = [
            override for override in parsed if override.is_delete() and not is_group(override.key_or_group, _loader())
        ]
        others = [override for override in parsed if override not in removals]
        groups = [_choices(override)[0] for override in others if is_group(override.key_or_group, _loader())]
        config = compose(CONFIG_NAME, overrides=groups)
        wrong = {str(removal.input_line): removal_problem(removal, config) for removal in removals}
        lines = forced(others, config, _loader())
    lines += [line for line, problem in wrong.items() if problem is None]
    found = [problem for problem in wrong.values() if problem is not None]
    (check_sweep if is_sweep else compose_and_validate)(config_dir, lines, found)
    return [f"++{override}" if f"++{override}" in lines else override for override in overrides]


def explain(error: Exception, config_dir: Path | None = None) -> InputError:
    """Return what Hydra, OmegaConf or YAML could not do, in words for the person who typed it."""
    if isinstance(error, UnicodeDecodeError) and config_dir is not None:
        for path in sorted(config_dir.rglob("*.yaml")):
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError as found:
                return InputError(f"{path}: not UTF-8 at byte {found.start}: {found.reason}")
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
    told = re.split(r"\nSee https|\n+Config search path", str(error))[0].strip()
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return InputError(told)
    return InputError(f"Hydra cannot compose a config of the files and overrides given: {type(error).__name__}: {told}")


def _resolve(job: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """Return the plain values, with null and a problem for each interpolation that leads nowhere."""
    original, problems = job, list[Problem]()
    while True:
        try:
            values = OmegaConf.to_container(job, resolve=True, throw_on_missing=False)
        except OmegaConfBaseException as error:
            key, message = str(error.full_key or "config"), str(error.msg or error).splitlines()[0]
            if key in {problem.key for problem in problems} or key == "config":
                raise ConfigError([*problems, Problem(key, message)]) from None
            problems.append(Problem(key, _about_interpolation(message, job)))
            job = job.copy() if job is original else job
            OmegaConf.update(job, key, None)
        else:
            assert isinstance(values, dict)
            return {str(key): value for key, value in values.items()}, problems


def _about_interpolation(message: str, job: DictConfig) -> str:
    match = re.fullmatch(r"Interpolation key '([\w.]+)' not found", message)
    missing = missing_part(job, match[1]) if match else None
    return f"${{{match[1]}}} leads nowhere: {missing}" if match and missing else message


def _aimless_nulls(values: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each callback that is set to null, which removes it, but stands in no file."""
    for section in ("callbacks", "tracker"):
        entries = values.get(section)
        entries = entries if isinstance(entries, dict) else {}
        for name, spec in entries.items():
            if spec is None and not any(
                source.sets(f"{section}.{name}") for source in sources(overrides, CONFIG_NAME, _loader())
            ):
                others = [other for other in entries if other != name]
                yield Problem(f"{section}.{name}", f"there is none to remove; {instead(name, others, f'{section}.')}")


def _repeats(problem: Problem, job: DictConfig, by_key: Mapping[str, Problem]) -> bool:
    """Return whether the value is only taken over from another key that has a problem itself."""
    _, node = find(job, problem.key)
    match = re.fullmatch(r"\$\{([\w.]+)\}", str(node._value())) if node is not None else None
    return match is not None and match[1] != problem.key and match[1] in by_key


def _with_origin(problem: Problem, overrides: Sequence[str]) -> Problem:
    key = problem.key
    source = None
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        while source is None and key:
            source = origin(key.split("[")[0], overrides, CONFIG_NAME, _loader())
            key = key.rpartition(".")[0]
    message, group = problem.message, problem.key.replace(".", "/")
    if message.startswith("expected a mapping") and source is not None and is_group(group, _loader()):
        message += f"; an option is chosen as {group}=…: {', '.join(_loader().get_group_options(group))}"
    return Problem(problem.key, message, source)


def _values(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return what is tried for each key, as overrides."""
    return {override.get_key_element(): _choices(override) for override in parse(overrides, _loader())}


def _preset() -> list[str]:
    """Return what the files chosen say about the sweep, as overrides."""
    composed: Any = HydraConfig.instance().cfg
    params = OmegaConf.select(composed, "hydra.sweeper.params")
    return with_texts_quoted([f"{key}={value}" for key, value in (params or {}).items()])


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_interval_sweep():  # for sweepers that take one; Hydra's own refuses it
        return [f"{key}={override.value().start}", f"{key}={override.value().end}"]  # type: ignore[union-attr]
    if not override.is_sweep_override():
        return [str(override.input_line)]
    choices = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not choices:
        raise InputError(f"{override.input_line}: expected a sweep over at least one value, got none")
    return choices


def initialized(config_dir: Path) -> initialize_config_dir:
    return initialize_config_dir(str(config_dir), version_base="1.3", job_name=CONFIG_NAME)


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()
