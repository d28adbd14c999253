"""Composes and checks the configs of a sweep's jobs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reprise.cli.composing import compose_job, valid
from reprise.cli.config_files import initialized
from reprise.cli.overrides import is_group, parse, with_texts_quoted
from reprise.config.schema import ExperimentConfig
from reprise.errors import ConfigError, InputError, Problem


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
            return valid(self._quickly_composed(lines), lines, found)
        except (ConfigError, OmegaConfBaseException):
            return valid(compose_job(lines), lines, found)  # Hydra's own word counts

    def _quickly_composed(self, lines: Sequence[str]) -> DictConfig:
        self._parsed |= {line: self._is_value(line) for line in lines if line not in self._parsed}
        others = tuple(line for line in lines if not self._parsed[line][1])
        if others not in self._composed:
            self._composed[others] = compose_job(others), HydraConfig.instance().cfg
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
            self._is_group[key] = is_group(key)
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


def _values(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return what is tried for each key, as overrides."""
    return {override.get_key_element(): choices(override) for override in parse(overrides)}


def _preset() -> list[str]:
    """Return what the files chosen say about the sweep, as overrides."""
    composed: Any = HydraConfig.instance().cfg
    params = OmegaConf.select(composed, "hydra.sweeper.params")
    return with_texts_quoted([f"{key}={value}" for key, value in (params or {}).items()])


def choices(override: Override) -> list[str]:
    """Return an override for each value that this one tries.

    Raises:
        InputError: if there is none.
    """
    key = override.get_key_element()
    if override.is_interval_sweep():  # for sweepers that take one; Hydra's own refuses it
        return [f"{key}={override.value().start}", f"{key}={override.value().end}"]  # type: ignore[union-attr]
    if not override.is_sweep_override():
        return [str(override.input_line)]
    choices = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not choices:
        raise InputError(f"{override.input_line}: expected a sweep over at least one value, got none")
    return choices
