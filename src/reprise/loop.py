"""The training loop: one step over and over. It announces events; it knows no file names and no config.

Where it stands is one number, the optimizer steps done. Epoch and position in the data follow from it, so that a
resumed loop carries on by arithmetic.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from reprise.accumulation import Accumulation
from reprise.data import Batch, count_labels, on_device
from reprise.data.loading import Batches
from reprise.processes import ALONE, Processes
from reprise.randomness import address, seed_globals


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


class NonFiniteError(ArithmeticError):
    """A loss or gradient norm is not a finite number."""


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
        self.stop_reason: str | None = None
        """Why training ended before `total_steps`, for good."""
        self.interruption: str | None = None
        """Why the loop returned although training has not ended; never part of the state."""
        self.loss: Tensor | None = None
        """Loss of the last step, on the device; reading it waits for the device."""
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
        self._count_items = count_items
        if accumulation is None and gradient_accumulation > 1:
            accumulation = Accumulation(model, gradient_accumulation)
        self._accumulation = accumulation
        self._forward = model if accumulation is None else accumulation.spread.forward
        self._processes = processes
        self._asked_to_return: str | None = None
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._on_host = device.type == "cpu"
        # A scaler has a use of its own for what an optimizer divides by.
        self._divide = getattr(optimizer, "divide_gradients", None) if scaler is None else None
        # Sums since the last evaluation; on the device, so that adding to them does not wait for it.
        self._loss_sum = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self._num_items = 0
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
        if self.logged and not self.finished:
            self._commit()  # carries on from where a shorter run ended: the line of this step is not written yet
        position = self.step % self.steps_per_epoch
        first_batch = self.step // self.steps_per_epoch * len(self._batches) + position * self._gradient_accumulation
        with contextlib.closing(self._batches.stream(first_batch)) as stream:  # type: ignore[type-var]
            while not self.finished and self.interruption is None:
                position = self.step % self.steps_per_epoch
                self.epoch = self.step // self.steps_per_epoch + 1
                if position == 0:
                    self._events.epoch_start()
                num_here = self._num_microbatches
                if self._accumulation is not None:
                    num_here = self._accumulation.num_here(num_here)
                self._train_step([next(stream) for _ in range(num_here)])
                self._events.step_end()
                self._agree()
                self._close_step()
        if self.finished and self.evaluated_step != self.step:
            self._close_run()

    def stop(self, reason: str) -> None:
        """End training for good after this step."""
        self.stop_reason = reason

    def interrupt(self, reason: str) -> None:
        """Return from `run` after this step's commit; the same state carries on later."""
        self._asked_to_return = reason

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
        if self._accumulation is None:
            (num_items,) = counts
            self.loss = self._train_on(microbatches[0], 0, 1.0)
        else:
            num = self._num_microbatches
            self.loss, num_items = self._accumulation.train(microbatches, counts, num, self._train_on)
            # Whichever microbatches were trained on here, the random state is the same afterwards.
            seed_globals(address(self._seed, "step", self.step))
        with torch.no_grad():
            if self._scaler is not None:
                self._scaler.unscale_(self.optimizer)
            if self._gradient_clip is not None:
                self.gradient_norm = clip_gradients(self._parameters, self._gradient_clip, self._divide)
            if self._scaler is None:
                self.optimizer.step()
            else:
                self._scaler.step(self.optimizer)
                self._scaler.update()
            for parameter in self._parameters:
                parameter.grad = None
            self.scheduler.step()
            self.step += 1
            self._loss_sum.add_(self.loss, alpha=num_items)
            self._num_items += num_items

    @property
    def _num_microbatches(self) -> int:
        """Return how many there are in the step that begins; at the end of an epoch there may be fewer."""
        position = self.step % self.steps_per_epoch
        return min(self._gradient_accumulation, len(self._batches) - position * self._gradient_accumulation)

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
        if self._processes.size > 1:
            stops, returns = self._processes.any(stops, returns)
        if stops and self.stop_reason is None:
            self.stop_reason = "another process ended it"
        if returns:
            self.interruption = self._asked_to_return or "a signal to another process"

    def _close_step(self) -> None:
        epoch_ends = self.step % self.steps_per_epoch == 0
        evaluates = epoch_ends or (self._eval_every_steps is not None and self.step % self._eval_every_steps == 0)
        if evaluates:
            self._evaluate_now()
        elif self.finished:
            return  # the rest is for `_close_run`
        if epoch_ends:
            self._events.epoch_end()
        if evaluates:
            self._agree()
        self._commit()

    def _close_run(self) -> None:
        # What a longer run carries on from: it has no evaluation here, and so neither its line nor its best.
        self._unwritten, self.logged = self.logged, {}
        self._events.commit()
        self.logged, self._unwritten = self._unwritten, {}
        self._evaluate_now()
        self._events.epoch_end()
        self._commit()

    def _commit(self) -> None:
        self._events.commit()
        self.logged = {}

    def _evaluate_now(self) -> None:
        train_loss = finite(self._loss_sum / self._num_items, "training loss", self.step)
        self._loss_sum.zero_()
        self._num_items = 0
        metrics = {"train/loss": train_loss} | self._evaluate()
        for name, metric in metrics.items():
            finite(metric, name, self.step)
        if self.monitor not in metrics:
            raise LookupError(f"training.monitor: nothing computed {self.monitor!r}, but {', '.join(metrics)}")
        value = metrics[self.monitor]
        if self.best is None or (value < self.best.value if self.monitor_mode == "min" else value > self.best.value):
            self.best = Best(value, self.epoch, self.step)
        self.metrics = metrics
        self.evaluated_step = self.step
        self.log(metrics)
        self._events.eval_end(metrics)


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float, divide: Callable[[Tensor], bool] | None = None
) -> Tensor:
    """Scale all gradients so that their L2 norm together is `max_norm` at most; return the norm before.

    They are divided by `max(1, norm / max_norm)`: by `divide`, if it can, and otherwise here. An optimizer that divides
    them as it reads them saves a pass over all of them.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if len({(gradient.dtype, gradient.get_device()) for gradient in gradients}) != 1:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
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


def num_steps_per_epoch(num_batches: int, gradient_accumulation: int) -> int:
    """Return the optimizer steps of one epoch; the last one may have fewer batches than the others."""
    return -(-num_batches // gradient_accumulation)


def num_total_steps(steps_per_epoch: int, max_epochs: int, max_steps: int | None) -> int:
    """Return the optimizer steps of the whole run."""
    total = steps_per_epoch * max_epochs
    return total if max_steps is None else min(total, max_steps)
