"""Completes keys and groups on a command line in a shell, for scripts that are no Hydra programs themselves."""

import os
from contextlib import suppress
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from reprise.cli.config_files import CONFIG_NAME, initialized, loader
from reprise.private_names.hydra import completions, without_program


def print_completions(config_dir: Path) -> None:
    """Print what may stand in place of the last word of `COMP_LINE`, the first argument being a key without a value.

    The shell function is the one that `python scripts/train.py -sc install=bash` prints.
    """
    key, space, overrides = without_program(os.environ["COMP_LINE"]).partition(" ")
    is_key = not space
    # What cannot be composed yet cannot be completed, and a shell is no place to say so.
    with suppress(HydraException, OmegaConfBaseException), initialized(config_dir):
        words = completions(loader(), CONFIG_NAME, key if is_key else overrides)
        print(" ".join(word.removesuffix("=") if is_key else word for word in words))
