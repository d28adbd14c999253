"""One optimizer step: passes over its microbatches, clipping, the update. It knows no data and no events."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from reprise.data import Batch, count_labels, on_device
from reprise.models.evaluation_mode import ModelState
from reprise.private_names.torch import foreach_div_, foreach_norm
from reprise.randomness.addresses import after_step_seed, seed_globals, step_seed
from reprise.training.accumulation import Accumulation
from reprise.training.finiteness import FiniteWatch
from reprise.training.processes import ALONE, Processes
from reprise.training.scalars import scalar_loss
from reprise.training.skipped_steps import first_nonfinite, whole, without_items

logger = logging.getLogger(__name__)

_ADDRESSES_AT_ONCE = 64


class Scheduler(Protocol):
    """What a learning rate schedule is here; those of `torch.optim.lr_scheduler` fit."""

    def step(self) -> None: ...
    def get_last_lr(self) -> list[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Precision:
    """Where a model computes and with what numbers: a loss `scaler` goes with half precision."""

    device: torch.device
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    scaler: torch.amp.GradScaler | None = None


class OptimizerStep:
    """Changes a model by one optimizer step whenever it is called.

    `samples`: returns the sample indices of a step, counted from 1, for error messages. `accumulation`: sums the
    gradients of several microbatches. `gradient_clip` bounds the L2 norm of all gradients together.

    `on_nonfinite`: what a loss or gradient norm that is not finite does. With `stop` they stay on the device until
    somebody reads from it anyway, and then end training. With `skip` each step waits for the device, and leaves the
    model as it was if its loss or gradient is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Scheduler,
        samples: Callable[[int], Sequence[int]],
        *,
        seed: int,
        precision: Precision,
        gradient_clip: float | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        count_items: Callable[[Batch], int] = count_labels,
        accumulation: Accumulation | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = precision.scaler
        self.accumulation = accumulation
        self.skips_nonfinite = on_nonfinite == "skip"
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.watch = FiniteWatch(
            self._parameters, samples, ignores_gradients=self.scaler is not None, processes=processes
        )
        self.loss: Tensor | None = None
        """Mean over the items of the last step, on the device; None if the step was skipped."""
        self.gradient_norm: Tensor | None = None
        """L2 norm of the gradients before clipping, on the device; None where nothing is clipped."""
        self._forward = model if accumulation is None else accumulation.spread.forward
        self._seed = seed
        self._device = precision.device
        self._on_host = precision.device.type == "cpu"
        self._autocast = precision.autocast
        self._gradient_clip = gradient_clip
        self._count_items = count_items
        self._no_grad = torch.no_grad()  # making one takes as long as using it
        self._addresses: dict[tuple[int, int], int] = {}
        """Of microbatches to come, by step and index."""
        self._looked_at = self._parameters if self.scaler is None else None
        # A scaler has a use of its own for what an optimizer divides by; a step that is skipped would leave it behind.
        can_divide = self.scaler is None and not self.skips_nonfinite
        self._divide = getattr(optimizer, "divide_gradients", None) if can_divide else None

    def __call__(self, step: int, microbatches: Sequence[Batch], num: int) -> None:
        """Make the step after `step` others, from the microbatches of this process, of `num` altogether."""
        counts = [int(self._count_items(batch)) for batch in microbatches]
        weights, num_items = [1.0], counts[0]
        if self.accumulation is not None:
            weights, num_items = self.accumulation.weigh(counts, num)
        if num_items == 0:
            self._skip(step)
            return
        before = ModelState(self.model, with_weights=False) if self.skips_nonfinite else None
        if self.accumulation is None:
            self.loss = self._backward(microbatches[0], step, 0, 1.0)
        else:
            losses = []
            for position, batch in enumerate(microbatches):
                with self.accumulation.microbatch(position, len(microbatches)):
                    index = self.accumulation.share.start + position
                    losses.append(self._backward(batch, step, index, weights[position]))
            self.loss = self.accumulation.finish(losses, num)
            # Whichever microbatches were trained on here, the random state is the same afterwards.
            seed_globals(after_step_seed(self._seed, step))
        with self._no_grad:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            if self._gradient_clip is not None:
                self.gradient_norm = clip_gradients(self._parameters, self._gradient_clip, self._divide)
            rate = self.optimizer.param_groups[0]["lr"]
            if before is not None and (found := first_nonfinite(self.loss, self.gradient_norm, self._looked_at)):
                logger.warning("skipped: %s", self.watch.error(*found, step + 1, rate))
                before.put_back()
                self.loss = self.gradient_norm = None
            else:
                self.watch.note(step + 1, self.loss, self.gradient_norm, rate, num_items)
            if self.scaler is not None:
                self.scaler.step(self.optimizer)
                self.scaler.update()
            elif self.loss is not None:
                self.optimizer.step()
            for parameter in self._parameters:
                parameter.grad = None
            self.scheduler.step()

    def _skip(self, step: int) -> None:
        """Count a step without items, and change nothing but the learning rate."""
        logger.warning("skipped: %s", without_items(step + 1, self.watch.samples(step + 1)))
        self.loss = self.gradient_norm = None
        seed_globals(after_step_seed(self._seed, step))
        self.scheduler.step()

    def _backward(self, host_batch: Batch, step: int, index: int, weight: float) -> Tensor:
        """Add the gradients of the loss of microbatch `index` times `weight`, and return that loss.

        With a weight of 0 it is a mean over nothing, perhaps no number; `accumulation` keeps its gradients out.
        """
        batch = host_batch if self._on_host else on_device(host_batch, self._device)
        # What the model draws depends on this address alone: no evaluation, callback or restart can shift it.
        seed_globals(self._address(step, index))
        with self._autocast():
            loss: Tensor = self._forward(**batch).loss
        if loss.ndim:
            loss = scalar_loss(loss, self.model)
        if weight != 1.0:
            loss = loss * weight
        if weight or loss.requires_grad:
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if not weight:
            return torch.zeros_like(loss, requires_grad=False)
        # A CUDA graph writes its results to the same memory again.
        return loss.detach() if self._on_host else loss.detach().clone()

    def _address(self, step: int, index: int) -> int:
        """Return the address of microbatch `index`.

        Those of the steps that follow are made at the same time: one by one, each would find a processor's caches full
        of the model.
        """
        if (step, index) not in self._addresses:
            steps = range(step, step + _ADDRESSES_AT_ONCE)
            self._addresses |= {(number, index): step_seed(self._seed, number, index) for number in steps}
        return self._addresses.pop((step, index))


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float, divide: Callable[[Tensor], bool] | None = None
) -> Tensor:
    """Scale all gradients so that their L2 norm together is `max_norm` at most; return the norm before.

    They are divided by `max(1, norm / max_norm)`: by `divide`, if it can, and otherwise here. An optimizer that divides
    them as it reads them saves a pass over all of them.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if len({(gradient.dtype, gradient.get_device()) for gradient in gradients}) != 1:
        return whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    norm: Tensor = torch.linalg.vector_norm(torch.stack(foreach_norm(gradients)))
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
        foreach_div_(gradients, ratio)
    return norm
