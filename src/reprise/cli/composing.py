"""Composes configs with Hydra and validates them; all problems come together, each with its origin."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprise.cli.config_files import CONFIG_NAME, initialized, loader
from reprise.cli.hydra_errors import as_input_error
from reprise.cli.overrides import is_group, missing_part, parse, with_texts_quoted
from reprise.cli.sources import find, origin, sources
from reprise.cli.taking_over import take_over
from reprise.config.components import check_components
from reprise.config.composed import Composed
from reprise.config.schema import ExperimentConfig
from reprise.config.secrets import hidden, hidden_in_text
from reprise.errors import ConfigError, Problem
from reprise.private_names.omegaconf import raw_value
from reprise.text.suggestions import instead


def validated(job: DictConfig, found: Sequence[Problem] = ()) -> Composed:
    """Return the config that Hydra composed for the current job.

    Raises:
        ConfigError: with all problems, each with the file or override that it came from, and those `found` elsewhere.
    """
    hydra_config = HydraConfig.get()
    # Not resolved: the interpolations in an override are about the job's config.
    task_overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = [str(line) for line in task_overrides] if isinstance(task_overrides, list) else []
    config = valid(job, overrides, found)
    record = {
        "config.yaml": _recorded(job),
        "hydra.yaml": _recorded(HydraConfig.instance().cfg),
        "overrides.yaml": _recorded(hydra_config.overrides.task),
    }
    return Composed(config, tuple(hidden_in_text(line) for line in overrides), record)


def _recorded(config: Any) -> str:
    """Return a config, not resolved, as YAML without credentials."""
    return hidden_in_text(OmegaConf.to_yaml(OmegaConf.create(hidden(OmegaConf.to_container(config, resolve=False)))))


def valid(job: DictConfig, overrides: Sequence[str], found: Sequence[Problem] = ()) -> ExperimentConfig:
    """Return the config of a job that was composed with these overrides.

    Raises:
        ConfigError: as `validated`.
    """
    values, problems = _resolve(job)
    for name in [name for name in ("experiment", "debug", "sweep") if name in values]:
        del values[name]
        problems.append(Problem(name, "the file chosen must begin with the line `# @package _global_`, and hold keys"))
    if values.get("experiment_name") is None and "experiment_name" not in {problem.key for problem in problems}:
        options = ", ".join(loader().get_group_options("experiment"))
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
        return validated(compose_job(with_texts_quoted(overrides)), found)


def compose_job(overrides: Sequence[str]) -> DictConfig:
    """Return what Hydra makes of the overrides, without its own section, which becomes the current `HydraConfig`."""
    return as_job(compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True))


def as_job(composed: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own section, which becomes the current `HydraConfig`."""
    HydraConfig.instance().set_config(composed)  # which copies what it takes
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    return composed


def with_overrides(
    config: ExperimentConfig, overrides: Sequence[str], trusted_packages: Sequence[str], record: Path
) -> ExperimentConfig:
    """Return a saved config with the values that KEY=VALUE overrides give, and with those that are taken from them.

    `record`: Hydra's own of the config, in which interpolations still stand.

    Raises:
        ConfigError: with all that is wrong in the result, and for keys that cannot be changed.
    """
    values = config.to_dict()
    problems: list[Problem] = []
    try:
        parsed = parse(with_texts_quoted(overrides))
    except OverrideParseException as error:
        raise as_input_error(error) from None
    for override in parsed:
        *sections, name = override.key_or_group.split(".")
        section: Any = values
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if override.is_delete() or override.is_sweep_override() or not isinstance(section, dict):
            problems.append(Problem(override.key_or_group, f"expected KEY=VALUE, got {override.input_line!r}"))
        elif override.key_or_group in ("experiment_name", "run_id", "sweep_id", "output_dir"):
            problems.append(Problem(override.key_or_group, "says where the run lies, and stays as it is"))
        elif override.key_or_group == "trusted_packages":
            problems.append(Problem("trusted_packages", "that of a run has no effect; give --trust PACKAGE instead"))
        else:
            section[name] = override.value()
    take_over(record, config.to_dict(), values, {override.key_or_group for override in parsed})
    trusted = values | {"trusted_packages": list(trusted_packages)}
    problems += check_components(trusted)
    return ExperimentConfig.from_dict(values, problems)


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
            if spec is None and not any(source.sets(f"{section}.{name}") for source in sources(overrides)):
                others = [other for other in entries if other != name]
                yield Problem(f"{section}.{name}", f"there is none to remove; {instead(name, others, f'{section}.')}")


def _repeats(problem: Problem, job: DictConfig, by_key: Mapping[str, Problem]) -> bool:
    """Return whether the value is only taken over from another key that has a problem itself."""
    _, node = find(job, problem.key)
    match = re.fullmatch(r"\$\{([\w.]+)\}", str(raw_value(node))) if node is not None else None
    return match is not None and match[1] != problem.key and match[1] in by_key


def _with_origin(problem: Problem, overrides: Sequence[str]) -> Problem:
    key = problem.key
    source = None
    with contextlib.suppress(HydraException, OmegaConfBaseException):
        while source is None and key:
            source = origin(key.split("[")[0], overrides)
            key = key.rpartition(".")[0]
    message, group = problem.message, problem.key.replace(".", "/")
    if message.startswith("expected a mapping") and source is not None and is_group(group):
        message += f"; an option is chosen as {group}=…: {', '.join(loader().get_group_options(group))}"
    return Problem(problem.key, message, source)
