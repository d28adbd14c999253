"""The typed schema of the whole config, and `ExperimentConfig.save` and `load`.

Keys that a section owns are defined here with unit and range. Every other key of `data` and `model`, and all keys of
the components (metrics, callbacks …), are keyword arguments of their `_target_`.
"""

import dataclasses
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from reprise.config.checking import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    conform,
    plain,
)
from reprise.config.moved import with_current_targets
from reprise.config.names import name_problem, run_name_problem
from reprise.config.secrets import hidden, keep_secret
from reprise.errors import ConfigError, InputError, Problem
from reprise.files import json_file
from reprise.files.atomic_file import write_json
from reprise.files.differences import Difference, compare

Target = dict[str, Any]
"""A `_target_` with its keyword arguments."""

_TARGET = {"key": "_target_"}
_ARGUMENTS = {"key": "*"}
# An own data function or model need not take the keys of the worked examples: then there is no value, not a default.
_OPTIONAL = {"absent_is_none": True}


@dataclass(frozen=True)
class DataConfig:
    target: str | None = field(default=None, metadata=_TARGET)
    path: str | None = field(default=None, metadata=_OPTIONAL)
    """File or directory of the data."""
    train_split: Annotated[float, Range(above=0, max=1)] | None = field(default=0.8, metadata=_OPTIONAL)
    """Fraction of all samples."""
    val_split: Fraction | None = field(default=0.1, metadata=_OPTIONAL)
    """Fraction of all samples; the rest is the test split."""
    fold: NonNegativeInt | None = None
    """Of `num_folds` equal parts, from 0, the one that is the test split; null splits by the fractions above."""
    num_folds: Annotated[int, Range(min=2)] = 5
    """Counts only beside a fold."""
    stratify: bool = False
    """Give every split its share of each class."""
    num_workers: NonNegativeInt = 0
    """Loader processes; 0 fetches in the training process. Never changes a bit of the result."""
    arguments: dict[str, Any] = field(default_factory=dict, metadata=_ARGUMENTS)


@dataclass(frozen=True)
class ModelConfig:
    target: str | None = field(default=None, metadata=_TARGET)
    name: str = "model"
    hidden_size: PositiveInt | None = field(default=None, metadata=_OPTIONAL)
    num_layers: PositiveInt | None = field(default=None, metadata=_OPTIONAL)
    dropout: Probability | None = field(default=None, metadata=_OPTIONAL)
    tokenizer: str | None = None
    """The tokenizer that goes with the weights; text data sets read it as `${model.tokenizer}`."""
    arguments: dict[str, Any] = field(default_factory=dict, metadata=_ARGUMENTS)


@dataclass(frozen=True)
class TrainingConfig:
    batch_size: PositiveInt = 32
    """Samples of one forward pass."""
    learning_rate: PositiveFloat = 1e-4
    max_epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    """Optimizer steps; ends the run before `max_epochs` does."""
    warmup_steps: NonNegativeInt = 0
    """Optimizer steps over which the learning rate rises from 0."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled; left off norms and biases."""
    gradient_clip: PositiveFloat | None = 1.0
    """Largest L2 norm of all gradients together; null clips nothing."""
    drop_last: bool = False
    """Leave out, at the end of each epoch, the samples that do not fill a batch: others in each epoch."""
    gradient_accumulation: PositiveInt = 1
    """Forward passes of one optimizer step; with `batch_size` it says how many samples a step has."""
    num_microbatches: PositiveInt | None = None
    """Forward passes into which the samples of one optimizer step are really cut, and which several processes share.
    Null is resolved once, at the first start: to `gradient_accumulation`, or to the least multiple of it that the
    number of processes divides."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes train: each with the whole model, or with a part of it."""
    reduction: Literal["ring", "ordered"] = "ring"
    """In which order gradients are summed: one process and two have the same bits with either, four with `ordered`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool | Literal["cuda_graphs"] = False
    """`torch.compile`; `cuda_graphs` also replays its kernels as one, which saves a GPU their launches."""
    device: str = "auto"
    """auto (cuda, mps, cpu: the first there is), cpu, mps, cuda or cuda:N."""
    checkpoint_every_epochs: PositiveInt | None = None
    """Epochs between the periodic checkpoints that are kept."""
    checkpoint_every_steps: PositiveInt | None = None
    """Optimizer steps between two writes of the last checkpoint, beyond the one at each epoch's end."""
    eval_every_steps: PositiveInt | None = None
    """Optimizer steps between two evaluations, beyond the one at each epoch's end."""
    log_every_steps: PositiveInt | None = 10
    """Optimizer steps between two lines of step metrics."""
    overfit_batches: PositiveInt | None = None
    """Train on this many batches of the first epoch only, with the draws they had there; for debugging."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a loss or gradient that is not finite does: stop the run, or skip the step, which is counted."""
    monitor: str = "val/loss"
    """The metric that chooses the best checkpoint."""
    monitor_mode: Literal["min", "max"] = "min"
    optimizer: Target = field(default_factory=lambda: {"_target_": "reprise.optimization.optimizers.AdamW"})
    scheduler: Target = field(default_factory=lambda: {"_target_": "reprise.optimization.schedules.LinearSchedule"})


@dataclass(frozen=True)
class CardConfig:
    """What only a person can know; stands in the model card as given."""

    description: str | None = None
    authors: str | None = None
    license: str | None = None
    """Identifier of the Hugging Face Hub, such as `mit`."""
    intended_use: str | None = None
    out_of_scope: str | None = None
    limitations: str | None = None
    ethical_considerations: str | None = None


@dataclass(frozen=True)
class ExportConfig:
    """Formats in which the best weights are written beside what `from_pretrained` loads."""

    onnx: bool = False
    """`export/model.onnx`, for runtimes without Python."""
    torch_export: bool = False
    """`export/model.pt2`, a program that `torch.export.load` reads."""


@dataclass(frozen=True)
class ExperimentConfig:
    """The whole resolved config of one run."""

    experiment_name: str = "base"
    run_id: str | None = None
    sweep_id: str | None = None
    """The sweep that the run is a job of."""
    seed: Annotated[int, Range(min=0, max=2**32 - 1)] = 42
    deterministic: bool | Literal["strict"] = True
    num_threads: PositiveInt | None = None
    """Threads of one process; they change bits. Null is resolved once, at the first start."""
    output_dir: str = "outputs"
    preflight: bool = False
    """Check in seconds that the run would work, instead of running."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metrics: dict[str, Target] = field(default_factory=dict)
    callbacks: dict[str, Target | None] = field(default_factory=dict)
    tracker: dict[str, Target | None] = field(default_factory=dict)
    export: ExportConfig = field(default_factory=ExportConfig)
    card: CardConfig = field(default_factory=CardConfig)
    trusted_packages: list[str] = field(default_factory=list)
    """Packages beyond those under `src/` that a `_target_` may come from."""

    @classmethod
    def from_dict(cls, values: dict[str, Any], problems: list[Problem] | None = None) -> Self:
        """Return the config that `values` spell out.

        All that is wrong is raised at once, together with `problems` found elsewhere.

        Raises:
            ConfigError: for unknown keys, wrong types, missing values and values out of range.
        """
        keep_secret(values)
        found = [*(problems or []), *_unwritable(values)]
        config = conform(values, cls, "", found)
        if isinstance(config, cls):
            found += [problem for problem in _cross_checks(config) if problem.key not in {p.key for p in found}]
        if found:
            raise ConfigError(found)
        assert isinstance(config, cls)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain values, keyed as in YAML; `from_dict` takes them back."""
        values = plain(self)
        assert isinstance(values, dict)
        return values

    def recorded(self) -> dict[str, Any]:
        """Return the config as plain values as it may be written down, without the values of credentials."""
        values = hidden(self.to_dict())
        assert isinstance(values, dict)
        return values

    def differences(self, other: "ExperimentConfig") -> list[Difference]:
        """Return each key, down to single values, in which the two configs differ as they are recorded.

        Left out are `run_id` and `sweep_id`, and `preflight`, which makes no other run.
        """
        first, second = (
            replace(config, run_id=None, sweep_id=None, preflight=False).recorded() for config in (self, other)
        )
        return compare(first, second)

    def with_resolved_values_of(self, saved: "ExperimentConfig") -> Self:
        """Return this config with what it leaves open, and a run resolves when it starts, as the run `saved` has it."""
        num_microbatches = self.training.num_microbatches or saved.training.num_microbatches
        training = replace(self.training, num_microbatches=num_microbatches)
        return replace(self, training=training, num_threads=self.num_threads or saved.num_threads)

    def save(self, path: str | Path) -> None:
        """Write the config to `path` as JSON, without the values of credentials."""
        write_json(Path(path), self.recorded())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the config that `save` wrote to `path`.

        Raises:
            InputError: if there is no such file, or it is not a config.
        """
        if not Path(path).exists():
            raise InputError(f"{path}: there is no such file")
        return cls.from_dict(with_current_targets(json_file.read_object(Path(path))))


def _unwritable(values: dict[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each text that no file in UTF-8 can hold: a command line takes any bytes."""
    for leaf in compare({}, values):
        try:
            f"{leaf.key}{leaf.second}".encode()
        except UnicodeEncodeError:
            yield Problem(leaf.key, f"expected text in UTF-8, got {leaf.second!r}")


def text_keys(schema: type = ExperimentConfig, prefix: str = "") -> frozenset[str]:
    """Return the dotted keys of the schema that hold a text, and nothing but a text or null."""
    keys: set[str] = set()
    hints = typing.get_type_hints(schema, include_extras=True)
    for item in dataclasses.fields(schema):
        key, annotation = prefix + str(item.metadata.get("key", item.name)), hints[item.name]
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            keys |= text_keys(annotation, f"{key}.")
        elif annotation in (str, str | None):
            keys.add(key)
    return frozenset(keys)


def _cross_checks(config: ExperimentConfig) -> list[Problem]:
    problems = []
    for key, name, problem in (
        ("experiment_name", config.experiment_name, name_problem),
        ("run_id", config.run_id, run_name_problem),
        ("sweep_id", config.sweep_id, name_problem),
    ):
        message = None if name is None else problem(name)
        if message:
            problems.append(Problem(key, message))
    if not config.output_dir:
        problems.append(Problem("output_dir", "expected a directory, got ''; the current one is `.`"))
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", config.training.device):
        problems.append(
            Problem("training.device", f"expected auto, cpu, mps, cuda or cuda:N, got {config.training.device!r}")
        )
    data = config.data
    if data.fold is not None:
        if data.fold >= data.num_folds:
            message = f"expected 0 to {data.num_folds - 1} beside data.num_folds={data.num_folds}, got {data.fold}"
            problems.append(Problem("data.fold", message))
        if data.val_split is not None and data.val_split + 1 / data.num_folds >= 1:
            message = f"expected less than {1 - 1 / data.num_folds:g} beside data.num_folds={data.num_folds}"
            problems.append(Problem("data.val_split", f"{message}, got {data.val_split!r}"))
    elif data.train_split is not None and data.val_split is not None and data.train_split + data.val_split > 1 + 1e-9:
        problems.append(
            Problem(
                "data.val_split",
                f"expected at most {1 - data.train_split:g} beside data.train_split, got {data.val_split!r}",
            )
        )
    return problems
