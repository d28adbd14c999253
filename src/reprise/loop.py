"""The training loop: one step over and over. It announces events; it knows no file names and no config.

Where it stands is one number, the optimizer steps done. Epoch and position in the data follow from it, so that a
resumed loop carries on by arithmetic.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from reprise.accumulation import Accumulation
from reprise.data import Batch, count_labels, on_device
from reprise.data.loading import Batches
from reprise.evaluation import EvaluationStopped
from reprise.failures import RunFailure
from reprise.processes import ALONE, Processes
from reprise.randomness import address, seed_globals

logger = logging.getLogger(__name__)

_MOST_UNREAD = 256  # losses and norms on the device that nobody has looked at
_MOST_SAMPLES_SHOWN = 100


class Scheduler(Protocol):
    """What a learning rate schedule is to the loop; those of `torch.optim.lr_scheduler` fit."""

    def step(self) -> None: ...
    def get_last_lr(self) -> list[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Events(Protocol):
    """What the loop announces, in this order."""

    def epoch_start(self) -> None: ...
    def step_end(self) -> None: ...
    def eval_end(self, metrics: Mapping[str, float]) -> None: ...
    def epoch_end(self) -> None: ...
    def commit(self) -> None: ...


class NonFiniteError(RunFailure, ArithmeticError):
    """A loss, gradient or metric is not a finite number."""


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
        self.steps_per_epoch = num_steps_per_epoch(len(batches), gradient_accumulation)
        self.total_steps = num_total_steps(self.steps_per_epoch, max_epochs, max_steps)
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
        self._seed = seed
        self._gradient_accumulation = gradient_accumulation
        self._gradient_clip = gradient_clip
        self._eval_every_steps = eval_every_steps
        self._device = device
        self._autocast = autocast
        self._scaler = scaler
        self._skips_nonfinite = on_nonfinite == "skip"
        self._unread: list[tuple[Tensor, Tensor | None, float]] = []
        """Loss, gradient norm and learning rate of the last steps, which nobody has looked at yet."""
        self._count_items = count_items
        if accumulation is None and gradient_accumulation > 1:
            accumulation = Accumulation(model, gradient_accumulation)
        self._accumulation = accumulation
        self._forward = model if accumulation is None else accumulation.spread.forward
        self._processes = processes
        self._asked_to_return: str | None = None
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._on_host = device.type == "cpu"
        # A scaler has a use of its own for what an optimizer divides by; a step that is skipped would leave it behind.
        can_divide = scaler is None and on_nonfinite == "stop"
        self._divide = getattr(optimizer, "divide_gradients", None) if can_divide else None
        # Sums since the last evaluation; on the device, so that adding to them does not wait for it.
        self._loss_sum = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self._num_items = 0
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
        unread, self._unread = self._unread, []
        # With a scaler steps whose gradients are not finite are left out.
        norms = [norm for _, norm, _ in unread if norm is not None and not self.scales_loss]
        if not _are_finite([loss for loss, _, _ in unread] + norms):
            self._raise_first_nonfinite(unread)
        if weights and not math.isfinite(greatest := _greatest(self._parameters, self._processes)):
            # Where nothing is clipped nobody has seen the gradient that did it.
            raise self._nonfinite("a weight", greatest, self.step, self.optimizer.param_groups[0]["lr"])

    def _raise_first_nonfinite(self, unread: Sequence[tuple[Tensor, Tensor | None, float]]) -> None:
        first = self.step - len(unread) + 1
        values = {"training loss": _read([loss for loss, _, _ in unread])}
        if not self.scales_loss:
            values["gradient norm"] = _read([norm for _, norm, _ in unread if norm is not None])
        for position, (*_, rate) in enumerate(unread):
            for name, found in values.items():
                if found and not math.isfinite(found[position]):
                    raise self._nonfinite(name, found[position], first + position, rate)

    def _nonfinite(self, name: str, value: float, step: int, rate: float) -> NonFiniteError:
        samples = self._batches.samples(*self._batch_numbers(step))
        shown = ", ".join(map(str, samples[:_MOST_SAMPLES_SHOWN]))
        more = f" and {len(samples) - _MOST_SAMPLES_SHOWN} more" if len(samples) > _MOST_SAMPLES_SHOWN else ""
        return NonFiniteError(
            f"{name} is {value} at step {step}, with learning rate {rate:g} and the samples {shown}{more} of the "
            "training split; a smaller training.learning_rate or training.gradient_clip may help, and "
            "training.on_nonfinite=skip leaves such steps out"
        )

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
                self.epoch = self.step // self.steps_per_epoch + 1
                if self.step % self.steps_per_epoch == 0:
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
        """Return where the loop stands, beside the states of model, optimizer and scheduler."""
        return {
            "step": self.step,
            "best": None if self.best is None else asdict(self.best),
            "metrics": dict(self.metrics),
            "evaluated_step": self.evaluated_step,
            "evaluation_is_due": self.evaluation_is_due,
            "num_skipped": self.num_skipped,
            "unwritten": dict(self._unwritten),
            "stop_reason": self.stop_reason,
            "loss_sum": self._loss_sum.clone(),
            "num_items": self._num_items,
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.epoch = max(0, self.step - 1) // self.steps_per_epoch + 1
        self.best = None if state["best"] is None else Best(**state["best"])
        self.metrics = dict(state["metrics"])
        self.evaluated_step = state["evaluated_step"]
        self.evaluation_is_due = state.get("evaluation_is_due", False)  # older ones have neither
        self.num_skipped = state.get("num_skipped", 0)
        self.logged = dict(state["unwritten"])
        self.stop_reason = state["stop_reason"]
        self._loss_sum.copy_(state["loss_sum"])
        self._num_items = state["num_items"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])

    def _train_step(self, microbatches: list[Batch]) -> None:
        if not self.model.training:
            self.model.train()
        counts = [self._count_items(batch) for batch in microbatches]
        buffers = [buffer.clone() for buffer in self.model.buffers()] if self._skips_nonfinite else []
        if self._accumulation is None:
            (num_items,) = counts
            self.loss = self._train_on(microbatches[0], 0, 1.0)
        else:
            _, num = self._batch_numbers(self.step + 1)
            self.loss, num_items = self._accumulation.train(microbatches, counts, num, self._train_on)
            # Whichever microbatches were trained on here, the random state is the same afterwards.
            seed_globals(address(self._seed, "step", self.step))
        with torch.no_grad():
            if self._scaler is not None:
                self._scaler.unscale_(self.optimizer)
            if self._gradient_clip is not None:
                self.gradient_norm = clip_gradients(self._parameters, self._gradient_clip, self._divide)
            rate = self.optimizer.param_groups[0]["lr"]
            is_skipped = self._skips_nonfinite and self._skip_if_nonfinite(buffers, rate)
            if self._scaler is None:
                if not is_skipped:
                    self.optimizer.step()
            else:
                self._scaler.step(self.optimizer)
                self._scaler.update()
            for parameter in self._parameters:
                parameter.grad = None
            self.scheduler.step()
            self.step += 1
            if is_skipped:
                return
            self._loss_sum.add_(self.loss, alpha=num_items)
            self._num_items += num_items
            self._unread.append((self.loss, self.gradient_norm, rate))
            if len(self._unread) == _MOST_UNREAD:
                self.check_finite()

    def _skip_if_nonfinite(self, buffers: Sequence[Tensor], rate: float) -> bool:
        """Wait for the device; if loss or gradients are not finite take back what the forward pass did, and say so."""
        assert self.loss is not None
        values = {"training loss": self.loss}
        if self._scaler is None:  # a scaler leaves steps with other gradients out itself, and falls
            gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            norm = self.gradient_norm
            values["gradient norm"] = _whole(nn.utils.get_total_norm(gradients)) if norm is None else norm
        for name, value in zip(values, _read(list(values.values())), strict=True):
            if not math.isfinite(value):
                logger.warning("skipped: %s", self._nonfinite(name, value, self.step + 1, rate))
                for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(before)
                self.num_skipped += 1
                self.loss = self.gradient_norm = None
                return True
        return False

    def _train_on(self, host_batch: Batch, index: int, weight: float) -> Tensor:
        """Add the gradients of the loss of microbatch `index` times `weight`, and return that loss."""
        batch = host_batch if self._on_host else on_device(host_batch, self._device)
        # What the model draws depends on this address alone: no evaluation, callback or restart can shift it.
        seed_globals(address(self._seed, "step", self.step, index))
        with self._autocast():
            loss: Tensor = self._forward(**batch).loss
        if weight != 1.0:
            loss = loss * weight
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        # A CUDA graph writes its results to the same memory again.
        return loss.detach() if self._on_host else loss.detach().clone()

    def _agree(self) -> None:
        """Have every process do what one of them was told: to end training, or to return."""
        stops, returns = self.stop_reason is not None, self.is_asked_to_return
        stops, returns = self._processes.any(stops, returns)
        if stops and self.stop_reason is None:
            self.stop_reason = "another process ended it"
        if returns:
            self.interruption = self._asked_to_return or "a signal to another process"

    def _close_step(self) -> None:
        epoch_ends = self.step % self.steps_per_epoch == 0
        evaluates = epoch_ends or (self._eval_every_steps is not None and self.step % self._eval_every_steps == 0)
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
        # None at all if every step was skipped.
        mean = {"train/loss": float(self._loss_sum / self._num_items)} if self._num_items else {}
        skipped = {"train/skipped_steps": float(self.num_skipped)} if self._skips_nonfinite else {}
        try:
            scores = self._evaluate()
        except EvaluationStopped:
            return False
        self._loss_sum.zero_()
        self._num_items = 0
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


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float, divide: Callable[[Tensor], bool] | None = None
) -> Tensor:
    """Scale all gradients so that their L2 norm together is `max_norm` at most; return the norm before.

    They are divided by `max(1, norm / max_norm)`: by `divide`, if it can, and otherwise here. An optimizer that divides
    them as it reads them saves a pass over all of them.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if len({(gradient.dtype, gradient.get_device()) for gradient in gradients}) != 1:
        return _whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if hasattr(norm, "full_tensor"):  # each process has a part of every gradient
        norm, divide = norm.full_tensor(), None
        gradients = [gradient.to_local() for gradient in gradients]  # type: ignore[attr-defined]
    if norm.is_cpu:
        if norm.item() <= max_norm:  # reading it waits for nothing here
            return norm
        ratio = norm / max_norm
    else:
        ratio = (norm / max_norm).clamp_(min=1.0)
    if divide is None or not divide(ratio):
        torch._foreach_div_(gradients, ratio)
    return norm


def finite(value: Tensor | float, name: str, step: int) -> float:
    """Return `value` as a float.

    Raises:
        NonFiniteError: if it is NaN or infinite.
    """
    number = float(value)
    if not math.isfinite(number):
        raise NonFiniteError(f"{name} is {number} at step {step}; a smaller training.learning_rate may help")
    return number


def _read(scalars: Sequence[Tensor]) -> list[float]:
    """Return the values of tensors without dimensions of one kind; waits for the device once."""
    return [float(value) for value in torch.stack(list(scalars)).tolist()] if scalars else []


def _are_finite(scalars: Sequence[Tensor]) -> bool:
    """Return whether all tensors without dimensions are finite; waits for the device once."""
    return not scalars or bool(torch.stack(list(scalars)).isfinite().all())


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor that is computed from a sharded model's parts as every process would read it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _greatest(tensors: Sequence[Tensor], processes: Processes) -> float:
    """Return a bound of all magnitudes, finite if they are, NaN if one is that; waits for the device once.

    It is the same in all processes, also where each has a part of every tensor. A maximum that gloo computes over them
    would not be NaN.
    """
    parts: list[Tensor] = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    present = [part for part in parts if part.numel()]  # of a small parameter a process may have nothing
    with torch.no_grad():
        for order in (2, math.inf):  # the first is faster, and may overflow
            norms = torch._foreach_norm(present, order) if present else ()
            greatest = float(torch.stack([norm.float() for norm in norms]).max()) if norms else 0.0
            if math.isfinite(greatest):
                break
    return greatest if processes.size == 1 else float(processes.rows(torch.tensor([greatest])).max())


def num_steps_per_epoch(num_batches: int, gradient_accumulation: int) -> int:
    """Return the optimizer steps of one epoch; the last one may have fewer batches than the others."""
    return -(-num_batches // gradient_accumulation)


def num_total_steps(steps_per_epoch: int, max_epochs: int, max_steps: int | None) -> int:
    """Return the optimizer steps of the whole run."""
    total = steps_per_epoch * max_epochs
    return total if max_steps is None else min(total, max_steps)
