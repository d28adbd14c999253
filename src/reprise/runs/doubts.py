"""Finds settings that a run takes and that make no sense, from its config and the facts of its data alone.

So what is warned of before training also stands in the model card, which is written from the files of the run.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reprise.config.checking import conform
from reprise.config.schema import TrainingConfig
from reprise.errors import InputError, Problem
from reprise.files.json_values import list_at, mapping_at, number_at, text_at
from reprise.runs.run_length import steps_of_epoch, steps_of_run
from reprise.text.numbers import count

LEAST_RATE = 1e-8
"""Learning rate below which the weights of a model stay about what they are, in fp32 and with any optimizer in use."""
GREATEST_RATE, GREATEST_RATE_OF_ADAM = 100.0, 1.0
"""The optimizers of the Adam family change each weight by about the learning rate in each step."""
_MOST_NAMED = 5


logger = logging.getLogger(__name__)


class Doubt(NamedTuple):
    setting: str
    why: str


def doubts(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[Doubt]:
    """Return what is doubtful; nothing of what `config` and `data` do not say.

    `config`: as in `config.json`. `data`: as under `data` in `provenance.json`.
    """
    problems: list[Problem] = []
    training = conform(dict(mapping_at(config, "training")), TrainingConfig, "training", problems)
    found = list(_label_names([str(label) for label in list_at(data, "labels")]))
    if problems or not isinstance(training, TrainingConfig):
        return found
    num_samples = number_at(data, "splits", "train", "num_samples")
    if num_samples:
        found = [*_length(training, int(num_samples)), *_size(training, int(num_samples)), *found]
    return [*_rate(training), *found]


def warn_of_doubts(config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Log one line for each."""
    for doubt in doubts(config, data):
        logger.warning("%s: %s", *doubt)


def _length(training: TrainingConfig, num_samples: int) -> Iterator[Doubt]:
    try:
        per_epoch, total = steps_of_epoch(training, num_samples), steps_of_run(training, num_samples)
    except InputError:  # such a run does not begin
        return
    run = f"the run has {count(total, 'step')}"
    is_of_torch = str(text_at(training.scheduler, "_target_")).startswith("torch.")  # those know no warm-up
    if training.warmup_steps >= total and not is_of_torch:
        yield Doubt(
            f"training.warmup_steps={training.warmup_steps}",
            f"{run}, so that the learning rate only rises, and training ends before it is training.learning_rate",
        )
    if training.max_steps is not None and training.max_steps > total:
        yield Doubt(
            f"training.max_steps={training.max_steps}",
            f"training.max_epochs={training.max_epochs} ends the run before, after {count(total, 'step')}",
        )
    for key, effect in (
        ("eval_every_steps", "evaluations come at the end of each epoch only"),
        ("checkpoint_every_steps", "it is saved at the end of each epoch only"),
    ):
        period = getattr(training, key)
        if period is not None and period > total:
            yield Doubt(f"training.{key}={period}", f"{run}, so that {effect}")
    num_epochs, period = -(-total // per_epoch), training.checkpoint_every_epochs
    if period is not None and period > num_epochs:
        yield Doubt(
            f"training.checkpoint_every_epochs={period}",
            f"the run has {count(num_epochs, 'epoch')}, so that no periodic checkpoint is kept",
        )


def _size(training: TrainingConfig, num_samples: int) -> Iterator[Doubt]:
    size = training.batch_size * training.gradient_accumulation
    if training.batch_size > num_samples:
        yield Doubt(
            f"training.batch_size={training.batch_size}",
            f"the training split has {count(num_samples, 'sample')}, so that each step is an epoch",
        )
    elif size > num_samples:
        yield Doubt(
            f"training.gradient_accumulation={training.gradient_accumulation}",
            f"a step would have {size} samples, and the training split has {num_samples}, so that each is an epoch",
        )


def _rate(training: TrainingConfig) -> Iterator[Doubt]:
    rate, optimizer = training.learning_rate, str(text_at(training.optimizer, "_target_")).rpartition(".")[2]
    setting = f"training.learning_rate={rate:g}"
    if rate < LEAST_RATE:
        yield Doubt(setting, f"below {LEAST_RATE:g} the weights stay about what they are")
    elif "adam" in optimizer.lower() and rate >= GREATEST_RATE_OF_ADAM:
        yield Doubt(setting, f"{optimizer} changes each weight by about so much in each step")
    elif rate >= GREATEST_RATE:
        yield Doubt(setting, "a rate of so much seldom converges with any optimizer")


def _label_names(names: list[str]) -> Iterator[Doubt]:
    empty = [number for number, name in enumerate(names) if not name.strip()]
    if empty:
        yield Doubt(
            "data", f"{count(len(empty), 'class', 'classes')} of {len(names)} have an empty name: {_first(empty)}"
        )
    again = [f"{name!r} ({num} times)" for name, num in Counter(names).items() if num > 1 and name.strip()]
    if again:
        yield Doubt("data", f"classes have the same name, and cannot be told apart in results: {_first(again)}")


def _first(names: list[Any]) -> str:
    return ", ".join(map(str, names[:_MOST_NAMED])) + (", …" if len(names) > _MOST_NAMED else "")
