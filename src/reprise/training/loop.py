"""The training loop: one step over and over. It announces events; it knows no file names and no config.

Where it stands is one number, the optimizer steps done. Epoch and position in the data follow from it, so that a
resumed loop carries on by arithmetic.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from reprise.data import Batch, count_labels
from reprise.errors import EvaluationStopped, NonFiniteError
from reprise.training.accumulation import Accumulation
from reprise.training.cadence import Cadence, num_steps_per_epoch, num_total_steps
from reprise.training.finiteness import FiniteWatch, finite
from reprise.training.loading import Batches
from reprise.training.processes import ALONE, Processes
from reprise.training.step import OptimizerStep, Scheduler


class Events(Protocol):
    """What the loop announces, in this order."""

    def epoch_start(self) -> None: ...
    def step_end(self) -> None: ...
    def eval_end(self, metrics: Mapping[str, float]) -> None: ...
    def epoch_end(self) -> None: ...
    def commit(self) -> None: ...


@dataclass(frozen=True)
class Best:
    """The evaluation with the best value of the monitored metric so far; of equals, the first."""

    value: float
    epoch: int
    step: int


class Loop:
    """Trains `model` until `total_steps`, evaluating as it goes.

    `evaluate` returns the metrics of the validation split. `gradient_accumulation` batches, the microbatches, make one
    optimizer step, and `accumulation` sums their gradients; a step never reaches over the end of an epoch.
    `gradient_clip` bounds the L2 norm of all gradients together.
    `eval_every_steps` counts optimizer steps; every epoch's end and the end of the run are evaluated in any case. An
    evaluation for the end of the run alone comes after a commit of its own, since a longer run has none there.

    `on_nonfinite`: what a loss or gradient norm that is not finite does. With `stop` they stay on the device until
    somebody reads from it anyway, and then end training (`check_finite`). With `skip` each step waits for the device,
    and leaves the model as it was if its loss or gradient is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Scheduler,
        batches: Batches,
        evaluate: Callable[[], dict[str, float]],
        events: Events,
        *,
        seed: int,
        max_epochs: int,
        max_steps: int | None = None,
        gradient_accumulation: int = 1,
        gradient_clip: float | None = None,
        eval_every_steps: int | None = None,
        device: torch.device,
        autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        scaler: torch.amp.GradScaler | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        monitor: str = "val/loss",
        monitor_mode: Literal["min", "max"] = "min",
        count_items: Callable[[Batch], int] = count_labels,
        accumulation: Accumulation | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.max_epochs = max_epochs
        steps_per_epoch = num_steps_per_epoch(len(batches), gradient_accumulation)
        total_steps = num_total_steps(steps_per_epoch, max_epochs, max_steps)
        self.cadence = Cadence(steps_per_epoch, total_steps, eval_every_steps)
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.monitor = monitor
        self.monitor_mode = monitor_mode

        self.step = 0
        """Optimizer steps done."""
        self.epoch = 1
        """The epoch that is under way or has just ended, from 1."""
        self.best: Best | None = None
        self.metrics: dict[str, float] = {}
        """All metrics of the last evaluation."""
        self.evaluated_step = 0
        """Optimizer steps done by the last evaluation."""
        self.is_running = False
        """Whether `run` is under way."""
        self.evaluation_is_due = False
        """Whether this step's evaluation was cut short by an interruption, and is to be done again."""
        self.stop_reason: str | None = None
        """Why training ended before `total_steps`, for good."""
        self.interruption: str | None = None
        """Why the loop returned although training has not ended; never part of the state."""
        self.num_skipped = 0
        """Steps that were left out since their loss or gradient was not finite."""
        self.loss: Tensor | None = None
        """Loss of the last step, on the device; reading it waits for the device. None if the step was skipped."""
        self.gradient_norm: Tensor | None = None
        """L2 norm of the last step's gradients before clipping, on the device; None where nothing is clipped."""
        self.logged: dict[str, float | Tensor] = {}
        """Metrics for the line of this step, numbers or tensors without dimensions; empty again after the commit."""

        self._batches = batches
        self._evaluate = evaluate
        self._events = events
        self._gradient_accumulation = gradient_accumulation
        self._scaler = scaler
        self._skips_nonfinite = on_nonfinite == "skip"
        if accumulation is None and gradient_accumulation > 1:
            accumulation = Accumulation(model, gradient_accumulation)
        self._accumulation = accumulation
        self._processes = processes
        self._watch = FiniteWatch(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lambda step: batches.samples(*self._batch_numbers(step)),
            ignores_gradients=scaler is not None,
            processes=processes,
        )
        self._optimizer_step = OptimizerStep(
            model,
            optimizer,
            scheduler,
            self._watch,
            seed=seed,
            device=device,
            autocast=autocast,
            scaler=scaler,
            gradient_clip=gradient_clip,
            count_items=count_items,
            accumulation=accumulation,
            skips_nonfinite=self._skips_nonfinite,
        )
        self._asked_to_return: str | None = None
        self._interruption_is_saved = False
        self._unwritten: dict[str, float | Tensor] = {}
        """Of the line of this step, what waits for the evaluation at the end of the run."""

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps or self.stop_reason is not None

    @property
    def scales_loss(self) -> bool:
        """Return whether steps with gradients that are not finite are left out, as half precision needs it."""
        return self._scaler is not None

    def num_samples_seen(self, step: int, num_samples: int) -> int:
        """Return how many samples `step` steps train on, if an epoch has `num_samples`."""
        num_epochs, position = divmod(step, self.steps_per_epoch)
        return num_epochs * num_samples + min(
            num_samples, position * self._batches.batch_size * self._gradient_accumulation
        )

    def run(self) -> None:
        """Train until the end, or until `interrupt` is called."""
        self.is_running = True
        try:
            self._run()
        finally:
            self.is_running = False

    def check_finite(self, weights: bool = False) -> None:
        """Wait for the device, and see whether losses and gradient norms so far are finite, and perhaps the weights.

        Raises:
            NonFiniteError: if not, with the first step where they are not.
        """
        self._watch.check()
        if weights:
            self._watch.check_weights(self.step, self.optimizer.param_groups[0]["lr"])

    def _batch_numbers(self, step: int) -> tuple[int, int]:
        """Return the number in the whole run of the first batch of a step, counted from 1, and how many it has."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        first = position * self._gradient_accumulation
        num = min(self._gradient_accumulation, len(self._batches) - first)
        return epoch * len(self._batches) + first, num

    def _run(self) -> None:
        if self.evaluation_is_due:
            self._close_step()
        elif self.logged and not self.finished:
            self._commit()  # carries on from where a shorter run ended: the line of this step is not written yet
        first_batch, _ = self._batch_numbers(self.step + 1)
        with contextlib.closing(self._batches.stream(first_batch)) as stream:  # type: ignore[type-var]
            while not self.finished and self.interruption is None:
                self.epoch = self.cadence.epoch_of(self.step + 1)
                if self.cadence.ends_epoch(self.step):
                    self._events.epoch_start()
                _, num = self._batch_numbers(self.step + 1)
                num_here = num if self._accumulation is None else self._accumulation.num_here(num)
                self._train_step([next(stream) for _ in range(num_here)])
                self._events.step_end()
                if self._processes.size > 1:
                    self._agree()
                self._close_step()
        if self.finished and self.evaluated_step != self.step and not self.evaluation_is_due:
            self._close_run()
        if self.interruption is not None and not self._interruption_is_saved and not self.finished:
            self._commit()  # it came while the step was committed

    def stop(self, reason: str) -> None:
        """End training for good after this step."""
        self.stop_reason = reason

    def interrupt(self, reason: str) -> None:
        """Return from `run` after this step's commit, without its evaluation; the same state carries on later.

        Where several processes train together, all of them return: after the step that is under way, or after the
        evaluation.
        """
        self._asked_to_return = reason
        if self._processes.size == 1:
            self.interruption = reason

    @property
    def is_asked_to_return(self) -> bool:
        return self._asked_to_return is not None

    def log(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Add metrics to the line of this step. Tensors are read later, so that nothing waits for the device."""
        self.logged |= metrics

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop stands, beside the states of model, optimizer and scheduler.

        Raises:
            NonFiniteError: as `check_finite`.
        """
        self.check_finite()
        return {
            "step": self.step,
            "best": None if self.best is None else asdict(self.best),
            "metrics": dict(self.metrics),
            "evaluated_step": self.evaluated_step,
            "evaluation_is_due": self.evaluation_is_due,
            "num_skipped": self.num_skipped,
            "unwritten": dict(self._unwritten),
            "stop_reason": self.stop_reason,
            "loss_sum": self._watch.loss_sum,
            "num_items": self._watch.num_items,
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.epoch = self.cadence.epoch_of(self.step)
        self.best = None if state["best"] is None else Best(**state["best"])
        self.metrics = dict(state["metrics"])
        self.evaluated_step = state["evaluated_step"]
        self.evaluation_is_due = state.get("evaluation_is_due", False)  # older ones have neither
        self.num_skipped = state.get("num_skipped", 0)
        self.logged = dict(state["unwritten"])
        self.stop_reason = state["stop_reason"]
        self._watch.loss_sum = float(state["loss_sum"])  # a tensor in older ones
        self._watch.num_items = state["num_items"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])

    def _train_step(self, microbatches: list[Batch]) -> None:
        if not self.model.training:
            self.model.train()
        make = self._optimizer_step
        make(self.step, microbatches, self._batch_numbers(self.step + 1)[1])
        self.step += 1
        self.loss, self.gradient_norm = make.loss, make.gradient_norm
        if self.loss is None:
            self.num_skipped += 1

    def _agree(self) -> None:
        """Have every process do what one of them was told: to end training, or to return."""
        stops, returns = self.stop_reason is not None, self.is_asked_to_return
        stops, returns = self._processes.any(stops, returns)
        if stops and self.stop_reason is None:
            self.stop_reason = "another process ended it"
        if returns:
            self.interruption = self._asked_to_return or "a signal to another process"

    def _close_step(self) -> None:
        epoch_ends, evaluates = self.cadence.ends_epoch(self.step), self.cadence.evaluates(self.step)
        if evaluates:
            if not self._evaluate_now():
                self.evaluation_is_due = True
                self._commit_without_line()
                return
            self.evaluation_is_due = False
        elif self.finished:
            return  # the rest is for `_close_run`
        if epoch_ends:
            self._events.epoch_end()
        if evaluates and self._processes.size > 1:
            self._agree()
        self._commit()

    def _close_run(self) -> None:
        # What a longer run carries on from: it has no evaluation here, and so neither its line nor its best.
        self._commit_without_line()
        if self._evaluate_now():
            self._events.epoch_end()
            self._commit()

    def _commit(self) -> None:
        self._interruption_is_saved = self.interruption is not None
        self._events.commit()
        self.logged = {}

    def _commit_without_line(self) -> None:
        self._interruption_is_saved = self.interruption is not None
        self._unwritten, self.logged = self.logged, {}
        self._events.commit()
        self.logged, self._unwritten = self._unwritten, {}

    def _evaluate_now(self) -> bool:
        """Return whether the evaluation was done, and not cut short by an interruption."""
        self.check_finite()
        watch = self._watch
        # None at all if every step was skipped.
        mean = {"train/loss": watch.loss_sum / watch.num_items} if watch.num_items else {}
        skipped = {"train/skipped_steps": float(self.num_skipped)} if self._skips_nonfinite else {}
        try:
            scores = self._evaluate()
        except EvaluationStopped:
            return False
        watch.loss_sum, watch.num_items = 0.0, 0  # they are since the last evaluation
        metrics = mean | skipped | scores
        for name, metric in metrics.items():
            finite(metric, name, self.step)
        if self.monitor not in metrics:
            if self.num_skipped:
                raise NonFiniteError(
                    f"{self.monitor} is not known at step {self.step}: all steps before it were skipped"
                )
            raise LookupError(f"training.monitor: nothing computed {self.monitor!r}, but {', '.join(metrics)}")
        value = metrics[self.monitor]
        if self.best is None or (value < self.best.value if self.monitor_mode == "min" else value > self.best.value):
            self.best = Best(value, self.epoch, self.step)
        self.metrics = metrics
        self.evaluated_step = self.step
        self.log(metrics)
        self._events.eval_end(metrics)
        return True
