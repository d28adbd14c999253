"""What composing leads to."""

from collections.abc import Mapping
from dataclasses import dataclass

from reprise.config.schema import ExperimentConfig


@dataclass(frozen=True)
class Composed:
    """A valid config, and Hydra's own record of how it came about, without credentials."""

    config: ExperimentConfig
    overrides: tuple[str, ...]
    record: Mapping[str, str]
    """Texts of the files of `.hydra`, by file name."""
