"""The typed schema of the whole config, its validation, and the call of what a `_target_` names."""

from reprise.config.checking import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
)
from reprise.config.schema import CardConfig, DataConfig, ExperimentConfig, ExportConfig, ModelConfig, TrainingConfig
from reprise.errors import ConfigError, InputError, Problem

__all__ = [
    "CardConfig",
    "ConfigError",
    "DataConfig",
    "ExperimentConfig",
    "ExportConfig",
    "Fraction",
    "InputError",
    "ModelConfig",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "Problem",
    "Range",
    "TrainingConfig",
]
