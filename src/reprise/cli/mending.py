"""Mends overrides that Hydra refuses although it is clear what they mean."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose

from reprise.cli.composing import CONFIG_NAME, compose_and_validate, initialized, loader
from reprise.cli.job_configs import check_sweep, choices
from reprise.cli.overrides import forced, group_problems, is_group, parse, removal_problem
from reprise.errors import ConfigError, InputError


def mended(config_dir: Path, overrides: Sequence[str], is_sweep: bool) -> list[str]:
    """Return what does compose instead of overrides that do not, if all they lack is that a file lists their keys.

    Such keys are arguments that a target takes.

    Raises:
        ConfigError: with all problems of the overrides, and of the config that they make.
        HydraException: if something else is wrong.
    """
    with initialized(config_dir):
        parsed = parse(overrides, loader())
        for override in parsed:
            if not override.key_or_group:
                raise InputError(f"{override.input_line}: expected KEY=VALUE")
        places = [str(override.input_line) for override in parsed if override.key_or_group == "hydra.searchpath"]
        problems = [] if places else group_problems(parsed, loader())  # Hydra alone knows options that lie elsewhere
        if problems:
            raise ConfigError(problems)
        removals = [
            override for override in parsed if override.is_delete() and not is_group(override.key_or_group, loader())
        ]
        others = [override for override in parsed if override not in removals]
        groups = [choices(override)[0] for override in others if is_group(override.key_or_group, loader())]
        config = compose(CONFIG_NAME, overrides=[*places, *groups])
        wrong = {str(removal.input_line): removal_problem(removal, config) for removal in removals}
        lines = forced(others, config, loader())
    lines += [line for line, problem in wrong.items() if problem is None]
    found = [problem for problem in wrong.values() if problem is not None]
    (check_sweep if is_sweep else compose_and_validate)(config_dir, lines, found)
    return [f"++{override}" if f"++{override}" in lines else override for override in overrides]
