"""The training loop: one step over and over. It announces events; it knows no file names and no config.

Where it stands is one number, the optimizer steps done. Epoch and position in the data follow from it, so that a
resumed loop finds its place by arithmetic.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from reprise.data import Batch
from reprise.errors import EvaluationStopped
from reprise.training.cadence import Cadence
from reprise.training.finite_values import finite_scores
from reprise.training.loading import Batches
from reprise.training.monitoring import Best, best_of, unknown_monitor
from reprise.training.processes import ALONE, Processes
from reprise.training.scalars import scalars_to_log
from reprise.training.step import OptimizerStep


class Events(Protocol):
    """What the loop announces, in this order."""

    def epoch_start(self) -> None: ...
    def step_end(self) -> None: ...
    def eval_end(self, metrics: Mapping[str, float]) -> None: ...
    def epoch_end(self) -> None: ...
    def commit(self) -> None: ...


class Loop:
    """Calls `optimizer_step` until the end that `cadence` gives, evaluating as it goes.

    `evaluate` returns the metrics of the validation split. A step never reaches over the end of an epoch. An evaluation
    for the end of the run alone comes after a commit of its own, since a longer run has none there.
    """

    def __init__(
        self,
        optimizer_step: OptimizerStep,
        batches: Batches,
        evaluate: Callable[[], dict[str, float]],
        events: Events,
        cadence: Cadence,
        *,
        monitor: str = "val/loss",
        monitor_mode: Literal["min", "max"] = "min",
        processes: Processes = ALONE,
    ) -> None:
        self.model = optimizer_step.model
        self.optimizer = optimizer_step.optimizer
        self.scheduler = optimizer_step.scheduler
        self.cadence = cadence
        self.steps_per_epoch = cadence.steps_per_epoch
        self.total_steps = cadence.total_steps
        self.monitor = monitor
        self.monitor_mode = monitor_mode

        self.step = 0
        """Optimizer steps done."""
        self.epoch = 1
        """The epoch that is under way or has just ended, from 1."""
        self.best: Best | None = None
        self.chosen_from = 0
        """Evaluations up to this step are no candidates for the best: they measured something else."""
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
        """Steps that left the model as it was: without an item, or with a loss or gradient that was not finite."""
        self.loss: Tensor | None = None
        """Loss of the last step, on the device; reading it waits for the device. None if the step was skipped."""
        self.gradient_norm: Tensor | None = None
        """L2 norm of the last step's gradients before clipping, on the device; None where nothing is clipped."""

        self._optimizer_step = optimizer_step
        self._watch = optimizer_step.watch
        self._scaler = optimizer_step.scaler
        self._batches = batches
        self._evaluate = evaluate
        self._events = events
        self._processes = processes
        self._asked_to_return: str | None = None
        self._interruption_is_saved = False
        self._modes: list[tuple[nn.Module, bool]] = []  # of each module before the evaluation
        self._line: dict[str, float | Tensor] = {}
        """Metrics of this step, numbers or tensors without dimensions."""
        self._line_waits = False
        """Whether a commit is under way before the evaluation that completes the line."""

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps or self.stop_reason is not None

    @property
    def logged(self) -> Mapping[str, float | Tensor]:
        """The line of metrics to write with this step's commit, so far; empty while it waits for an evaluation."""
        return {} if self._line_waits else self._line

    @property
    def scales_loss(self) -> bool:
        """Return whether steps with gradients that are not finite are left out, as half precision needs it."""
        return self._scaler is not None

    def run(self) -> None:
        """Train until the end, or until `interrupt` is called."""
        accumulation = self._optimizer_step.accumulation
        self.is_running = True
        try:
            self._finish_step_before()
            first_batch, _ = self._batches.of_step(self.step + 1)
            with contextlib.closing(self._batches.stream(first_batch)) as stream:  # type: ignore[type-var]
                while not self.finished and self.interruption is None:
                    if self.cadence.ends_epoch(self.step):
                        self.epoch = self.cadence.epoch_of(self.step + 1)
                        self._events.epoch_start()
                    num_here = 1
                    if accumulation is not None:
                        num_here = accumulation.num_here(self._batches.of_step(self.step + 1)[1])
                    self._train_step([next(stream) for _ in range(num_here)])
                    self._events.step_end()
                    if self._processes.size > 1:
                        self._agree()
                    self._close_step()
            if self.finished and self.evaluated_step != self.step and not self.evaluation_is_due:
                self._close_run()
            if self.interruption is not None and not self._interruption_is_saved and not self.finished:
                self._commit()  # it came while the step was committed
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

    def stop(self, reason: str) -> None:
        """End training for good after this step."""
        self.stop_reason = reason

    def interrupt(self, reason: str) -> None:
        """Return from `run` after this step's commit, without its evaluation; the same state can be resumed.

        Several processes return together: after the step that is under way, or after the evaluation.
        """
        self._asked_to_return = reason
        if self._processes.size == 1:
            self.interruption = reason

    @property
    def is_asked_to_return(self) -> bool:
        return self._asked_to_return is not None

    def log(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Add scalars of any kind to this step's line. Tensors are read later, so that nothing waits for the device."""
        self._line |= scalars_to_log(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop stands, beside the states of model, optimizer and scheduler.

        Raises:
            NonFiniteError: as `check_finite`.
        """
        self.check_finite()
        return {
            "step": self.step,
            "best": None if self.best is None else asdict(self.best),
            "chosen_from": self.chosen_from,
            "steps_per_epoch": self.steps_per_epoch,
            "origin": self.cadence.origin,
            "metrics": dict(self.metrics),
            "evaluated_step": self.evaluated_step,
            "evaluation_is_due": self.evaluation_is_due,
            "num_skipped": self.num_skipped,
            "unwritten": dict(self._line) if self._line_waits else {},
            "stop_reason": self.stop_reason,
            "loss_sum": self._watch.loss_sum,
            "num_items": self._watch.num_items,
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.epoch = self.cadence.epoch_of(self.step)
        self.best = None if state["best"] is None else Best(**state["best"])
        self.chosen_from = state.get("chosen_from", 0)
        self.metrics = dict(state["metrics"])
        self.evaluated_step = state["evaluated_step"]
        self.evaluation_is_due = state.get("evaluation_is_due", False)  # older ones have neither
        self.num_skipped = state.get("num_skipped", 0)
        self._line = dict(state["unwritten"])
        self.stop_reason = state["stop_reason"]
        self._watch.loss_sum = float(state["loss_sum"])  # a tensor in older ones
        self._watch.num_items = state["num_items"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])

    def _train_step(self, microbatches: list[Batch]) -> None:
        if not self.model.training:
            self.model.train()
            for module, is_training in self._modes:
                module.training = is_training
        step_once = self._optimizer_step
        step_once(self.step, microbatches, self._batches.of_step(self.step + 1)[1])
        self.step += 1
        self.loss, self.gradient_norm = step_once.loss, step_once.gradient_norm
        self.num_skipped += self.loss is None

    def _finish_step_before(self) -> None:
        """Do what an interruption or the end of a shorter run has left out of the last step."""
        if self.evaluation_is_due:
            self._close_step()
        elif self._line and not self.finished:
            self._commit()

    def _agree(self) -> None:
        """End training, or return, in every process if one of them was asked to."""
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
                self._commit(line_waits=True)
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
        # A longer run resumes from this state: it has no evaluation here, and so neither its line nor its best.
        self._commit(line_waits=True)
        if self._evaluate_now():
            self._events.epoch_end()
            self._commit()

    def _commit(self, *, line_waits: bool = False) -> None:
        """Announce that the state is consistent. `line_waits`: the step's line is for the commit that follows."""
        self._interruption_is_saved = self.interruption is not None
        self._line_waits = line_waits
        self._events.commit()
        self._line_waits = False
        if not line_waits:
            self._line = {}

    def _evaluate_now(self) -> bool:
        """Return whether the evaluation was done, and not cut short by an interruption."""
        self.check_finite()
        watch = self._watch
        # None at all if every step was skipped.
        mean = {"train/loss": watch.loss_sum / watch.num_items} if watch.num_items else {}
        self._modes = [(module, module.training) for module in self.model.modules()] if self.model.training else []
        skips = self._optimizer_step.skips_nonfinite
        skipped = {"train/skipped_steps": float(self.num_skipped)} if skips or self.num_skipped else {}
        try:
            scores = self._evaluate()
        except EvaluationStopped:
            return False
        watch.loss_sum, watch.num_items = 0.0, 0  # they are since the last evaluation
        metrics = finite_scores(mean | skipped | scores, self.step, self.monitor)
        if self.monitor not in metrics:
            raise unknown_monitor(self.monitor, metrics, self.step, self.num_skipped, skips)
        value, place = metrics[self.monitor], (self.epoch, self.step)
        self.best = best_of(self.best, value, self.monitor, self.monitor_mode, *place)
        self.metrics = metrics
        self.evaluated_step = self.step
        self.log(metrics)
        self._events.eval_end(metrics)
        return True
