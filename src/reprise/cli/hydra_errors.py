"""Puts into words what Hydra, OmegaConf or YAML could not do."""

import re
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from reprise.errors import InputError
from reprise.text.suggestions import instead


def as_input_error(error: Exception, config_dir: Path | None = None) -> InputError:
    """Return the error as one message for the person who typed it."""
    if isinstance(error, UnicodeDecodeError | OSError) and config_dir is not None:  # which name no file
        for path in sorted(config_dir.rglob("*.yaml")):
            try:
                OmegaConf.load(path)
            except UnicodeDecodeError as found:
                return InputError(f"{path}: not UTF-8 at byte {found.start}: {found.reason}")
            except OSError as found:
                return InputError(f"{path}: cannot be read as a config: {found}")
            except (YAMLError, OmegaConfBaseException):
                continue  # not chosen, or it would have been found first
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
    if isinstance(error, HydraException) and not str(error) and isinstance(error.__cause__, Exception):
        return as_input_error(error.__cause__, config_dir)  # an interpolation that is none makes Hydra speechless
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return InputError(f"{error.full_key}: {str(error.msg or error).splitlines()[0]}")
    told = re.split(r"\nSee https|\n+Config search path", str(error))[0].strip()
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return InputError(told)
    return InputError(f"Hydra cannot compose a config of the files and overrides given: {type(error).__name__}: {told}")
