"""Private names of Hydra."""

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.utils import get_args_parser  # the flags have to be known before Hydra's main function is called
from hydra.core.config_loader import ConfigLoader

__all__ = ["completions", "get_args_parser", "without_program"]

# Hydra completes only programs that are Hydra's; these two serve a script that is none.
without_program = BashCompletion.strip_python_or_app_name


def completions(loader: ConfigLoader, config_name: str, line: str) -> list[str]:
    """Return what may stand in place of the last word of a line of overrides."""
    return BashCompletion(loader)._query(config_name=config_name, line=line)
