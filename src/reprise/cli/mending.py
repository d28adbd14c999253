"""Mends overrides that Hydra refuses although it is clear what they mean."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reprise.cli.composing import compose_and_validate
from reprise.cli.config_files import CONFIG_NAME, initialized
from reprise.cli.hydra_errors import as_input_error
from reprise.cli.job_configs import check_sweep, choices
from reprise.cli.overrides import forced, group_problems, is_group, parse, removal_problem
from reprise.errors import ConfigError, InputError

T = TypeVar("T")

_REFUSED = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
# At odd overrides and files Hydra raises these from within.
_TRIPPED = (OSError, TypeError, AttributeError, LookupError, AssertionError, RecursionError)


def mended_if_refused(
    compose: Callable[[list[str]], T], config_dir: Path, overrides: list[str], *, is_sweep: bool = False
) -> T:
    """Return what `compose` makes of the overrides; where Hydra refuses them, of mended ones.

    Raises:
        InputError: with all that is wrong.
    """
    wrong = (*_REFUSED, *_TRIPPED)
    try:
        return compose(overrides)
    except wrong:
        GlobalHydra.instance().clear()
    try:
        return compose(mended(config_dir, overrides, is_sweep))
    except wrong as error:
        raise as_input_error(error, config_dir) from None


def mended(config_dir: Path, overrides: Sequence[str], is_sweep: bool) -> list[str]:
    """Return what does compose instead of overrides that do not, if all they lack is that a file lists their keys.

    Such keys are arguments that a target takes.

    Raises:
        ConfigError: with all problems of the overrides, and of the config that they make.
        HydraException: if something else is wrong.
    """
    with initialized(config_dir):
        parsed = parse(overrides)
        for override in parsed:
            if not override.key_or_group:
                raise InputError(f"{override.input_line}: expected KEY=VALUE")
        places = [str(override.input_line) for override in parsed if override.key_or_group == "hydra.searchpath"]
        problems = [] if places else group_problems(parsed)  # Hydra alone knows options that lie elsewhere
        if problems:
            raise ConfigError(problems)
        removals = [override for override in parsed if override.is_delete() and not is_group(override.key_or_group)]
        others = [override for override in parsed if override not in removals]
        groups = [choices(override)[0] for override in others if is_group(override.key_or_group)]
        config = compose(CONFIG_NAME, overrides=[*places, *groups])
        wrong = {str(removal.input_line): removal_problem(removal, config) for removal in removals}
        lines = forced(others, config)
    lines += [line for line, problem in wrong.items() if problem is None]
    found = [problem for problem in wrong.values() if problem is not None]
    (check_sweep if is_sweep else compose_and_validate)(config_dir, lines, found)
    return [f"++{override}" if f"++{override}" in lines else override for override in overrides]
