"""Decides which changes of the config a run can take while it is under way, and refuses the others, all at once."""

import logging
from collections.abc import Iterator
from typing import Any

from reprise.config import ExperimentConfig
from reprise.config.checking import show
from reprise.data import describe_data
from reprise.errors import Problem
from reprise.files.differences import Difference, compare
from reprise.files.json_values import at, text_at
from reprise.models import describe_model
from reprise.runs.building import Task
from reprise.runs.provenance import read_provenance
from reprise.runs.resuming.restored_state import Saved
from reprise.runs.resuming.restoring import refusal
from reprise.runs.run_length import steps_of_run
from reprise.runs.stages import RunBeforeTraining

logger = logging.getLogger(__name__)

_SIZE = ("training.batch_size", "training.gradient_accumulation")
_LENGTH = ("training.max_epochs", "training.max_steps")
# What acts on nothing but the steps that follow.
_OF_STEPS = (
    *("training.learning_rate", "training.warmup_steps", "training.scheduler", "training.optimizer", *_SIZE),
    *("training.weight_decay", "training.gradient_clip", "training.num_microbatches", "training.parallel"),
    *("training.reduction", "training.precision", "training.compile", "training.overfit_batches"),
    *("training.drop_last", "training.on_nonfinite", "deterministic", "num_threads", "model", "data"),
)
# What an optimizer puts into its state at its first step, by class, and does not look at afterwards.
_AT_FIRST_STEP = {
    "Adagrad": "training.optimizer.initial_accumulator_value",
    "Rprop": "training.learning_rate",
}
_ONLY_NAMES = ("model.name", "model.tokenizer", "data.num_workers")
# Keys that no part reads but through the argument of a callback, which the config files take from them.
_CARRIED = {
    "training.checkpoint_every_epochs": ("Checkpoints", "every_epochs"),
    "training.checkpoint_every_steps": ("Checkpoints", "every_steps"),
    "training.log_every_steps": ("MetricsLog", "every_steps"),
    "deterministic": ("Seeding", "deterministic"),
}


class Changes:
    """What is different from then, for a run with the parts in `task`.

    Raises:
        ConfigError: with all changes that cannot be.
    """

    origin = 0
    """The step from which epochs are counted."""
    measured_otherwise: str | None = None
    """Why evaluations so far cannot be compared with those to come."""

    def __init__(self, run: RunBeforeTraining, task: Task, saved: Saved | None) -> None:
        self.other_splits: list[str] = []
        """Names of the splits that have another content."""
        if saved is None:
            return
        self._saved = saved
        self._task = task
        self._recorded = read_provenance(run.directory.provenance)
        now = describe_data(task.data)["splits"]
        self.other_splits = [name for name in {**saved.splits, **now} if self._is_other(name, now.get(name))]
        self.origin = saved.cadence.origin
        problems = [*self._never(), *self._parts(), *self._data(), *self._place()]
        if not problems:
            problems += self._length(task.config)
        if problems:
            raise refusal(run, problems)

    def _is_other(self, name: str, now: Any) -> bool:
        before = self._saved.splits.get(name)
        if before is None or now is None or before["num_samples"] != now["num_samples"]:
            return True
        hashes = before["sha256"], now["sha256"]
        if None in hashes:  # nobody knows
            return bool([key for key in self._saved.has_changed("data") if key not in _ONLY_NAMES])
        return bool(hashes[0] != hashes[1])

    def _never(self) -> Iterator[Problem]:
        saved, config = self._saved, self._task.config
        if saved.has_changed("seed"):
            yield Problem(
                "seed",
                f"initial weights, splits and the order of samples came from {saved.config.seed}; another seed makes "
                "another run",
            )
        if saved.has_changed("deterministic") and saved.config.deterministic is False:
            yield Problem("deterministic", f"the {saved.step} steps so far were made without deterministic kernels")
        if saved.has_changed("training.optimizer._target_"):
            first, second = (text_at(one.training.optimizer, "_target_") for one in (saved.config, config))
            yield Problem(
                "training.optimizer._target_",
                f"the state that was saved is that of {first}, which {second} cannot take",
            )
        kind = str(config.training.optimizer.get("_target_")).rpartition(".")[2]
        for key in saved.has_changed(_AT_FIRST_STEP.get(kind, "")):
            yield Problem(key, f"{kind} looks at it in the first step alone, and {saved.step} are done")
        specs = [(name, spec) for name, spec in config.callbacks.items() if spec is not None]
        for key, (kind, argument) in _CARRIED.items():
            value = at(config.to_dict(), *key.split("."))
            for name, spec in specs:
                is_it = str(spec["_target_"]).rpartition(".")[2] == kind
                if is_it and saved.has_changed(key) and argument in spec and spec[argument] != value:
                    other = f"callbacks.{name}.{argument}"
                    yield Problem(key, f"has no effect here, since {other} is {show(spec[argument])}; change that")

    def _parts(self) -> Iterator[Problem]:
        """Yield a problem if the model would have begun with other weights: those there are cannot follow from it."""
        keys = [key for key in self._saved.has_changed("model", "data") if key not in _ONLY_NAMES]
        initial = text_at(self._recorded, "model", "initial_sha256")
        if keys and initial is not None and describe_model(self._task.model)["initial_sha256"] != initial:
            what = "the model would have begun with other weights, or weights of other sizes"
            yield Problem(", ".join(keys), f"{what}, but the run goes on from those of step {self._saved.step}")

    def _data(self) -> Iterator[Problem]:
        saved, others = self._saved, self.other_splits
        key = ", ".join(saved.has_changed("data")) or "data"
        scored = [name for name in others if name != "train"]
        if "train" in others and scored:
            yield Problem(
                key,
                f"other samples are in train and in {', '.join(scored)}: the run may have trained on what it would be "
                "scored on; start a new run",
            )
        elif scored:
            self.measured_otherwise = f"the split {scored[0]} has another content"
        metrics = saved.has_changed(*(f"metrics.{name}" for name in saved.config.metrics))
        if metrics and not self._task.config.training.monitor.endswith("/loss"):
            self.measured_otherwise = f"{metrics[0]} has changed"

    def _place(self) -> Iterator[Problem]:
        """Find where in the epoch the run is in steps of their present size, or yield why it is nowhere."""
        saved, cadence = self._saved, self._saved.cadence
        training, before = self._task.config.training, saved.config.training
        size, old_size = (one.batch_size * one.gradient_accumulation for one in (training, before))
        per_epoch = self._task.microbatches().steps_per_epoch
        if (size, per_epoch) == (old_size, cadence.steps_per_epoch) and "train" not in self.other_splits:
            return
        num_epochs, position = divmod(saved.step - cadence.origin, cadence.steps_per_epoch)
        num_done, end = position * old_size, saved.step - position + cadence.steps_per_epoch
        way_out = f"let the epoch end first, with training.max_steps={end} and nothing else"
        num_steps, rest = divmod(num_done, size)
        if num_done and "train" in self.other_splits:
            key = ", ".join(saved.has_changed("data")) or "data"
            yield Problem(
                key, f"another train split has another order, and epoch {num_epochs + 1} is under way; {way_out}"
            )
        elif rest:
            keys = ", ".join(saved.has_changed(*_SIZE))
            fits = [n for n in range(1, num_done + 1) if num_done % (n * training.gradient_accumulation) == 0]
            nearest = sorted(sorted(fits, key=lambda n: abs(n - training.batch_size))[:3])
            advice = f"training.batch_size={' or '.join(map(str, nearest))} fits, or " if nearest else ""
            yield Problem(
                keys,
                f"{num_done} samples of epoch {num_epochs + 1} are trained on, which is no whole number of steps of "
                f"{size} samples; {advice}{way_out}",
            )
        elif num_done and num_steps >= per_epoch:
            keys = ", ".join(saved.has_changed(*_SIZE, "training.drop_last"))
            yield Problem(keys, f"all that is left of epoch {num_epochs + 1} is what drop_last leaves out; {way_out}")
        self.origin = saved.step - num_epochs * per_epoch - num_steps

    def _length(self, config: ExperimentConfig) -> Iterator[Problem]:
        saved = self._saved
        total = steps_of_run(config.training, len(self._task.data.splits["train"]), self.origin)
        keys = ", ".join(saved.has_changed(*_LENGTH)) or ", ".join(saved.changed_keys)
        longer = "a longer run takes it: raise training.max_epochs or training.max_steps as well"
        if total < saved.step:
            yield Problem(keys, f"{saved.step} steps are done, and the run would have ended after {total}")
        elif total == saved.step:
            for key in saved.has_changed(*_OF_STEPS):
                if key not in _ONLY_NAMES:
                    yield Problem(key, f"no step is left that it could act on; {longer}")
            if self.measured_otherwise and saved.loop_state["evaluated_step"] == saved.step:
                keys = ", ".join(saved.has_changed("data", "metrics")) or "data"
                yield Problem(
                    keys, f"{self.measured_otherwise}, and no evaluation is left to choose the best by; {longer}"
                )

    def data_drift(self) -> list[Difference]:
        """Return which splits have another content although no key of the config says so."""
        if not self.other_splits or self._saved.has_changed("data"):
            return []
        both = self._saved.splits, describe_data(self._task.data)["splits"]
        found = compare(*({f"data.splits.{name}": one.get(name) for name in self.other_splits} for one in both))
        logger.warning("%s is other than when the run was started", ", ".join(fact.key for fact in found))
        return found
