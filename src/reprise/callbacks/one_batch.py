"""Asks whether a model can learn at all: it must take the loss of one batch to zero, or nearly."""

import logging
from typing import Any

from torch import Tensor, nn

from reprise.callbacks import Callback, Run
from reprise.config import PositiveFloat
from reprise.errors import NotLearned
from reprise.private_names.torch import BatchNorm

logger = logging.getLogger(__name__)


class OneBatch(Callback):
    """Ends training when the loss of a step falls below `below`, and fails the run if it never does.

    What a model does in training only, such as dropout and label smoothing, keeps a loss from zero: the model is in
    evaluation mode in training, too, but for the statistics of batch norm. The rest is for the config:
    `training.overfit_batches=1`, no weight decay, a constant learning rate.
    """

    def __init__(self, below: PositiveFloat = 0.02) -> None:
        self._below = below
        self._first: dict[str, Tensor] = {}
        self._first_loss: float | None = None
        self._last_loss: float | None = None
        self._reached = False

    def on_train_start(self, run: Run) -> None:
        self._first = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
        run.model.register_forward_pre_hook(_as_in_evaluation)

    def on_step_end(self, run: Run) -> None:
        loop = run.loop
        if loop.loss is None:  # the step was skipped
            return
        loss = self._last_loss = float(loop.loss)
        if self._first_loss is None:
            self._first_loss = loss
        if loss < self._below:
            self._reached = True
            loop.stop(f"the loss of the batch fell below {self._below:g}")
            logger.info("one batch: its loss fell from %.4g to %.4g in %d steps", self._first_loss, loss, loop.step)

    def on_commit(self, run: Run) -> None:
        loop = run.loop
        if self._reached or not loop.finished:
            return
        if self._first_loss is None or self._last_loss is None:
            raise NotLearned("one batch: it has no loss, since every step was skipped; the log says why")
        raise NotLearned(
            f"one batch: its loss went from {self._first_loss:.4g} to {self._last_loss:.4g} in {loop.step} steps, and "
            f"was expected below {self._below:g} (callbacks.one_batch.below). {self._advice(run.model)}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"first_loss": self._first_loss, "last_loss": self._last_loss, "reached": self._reached}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_loss, self._reached = state["first_loss"], state["reached"]
        self._last_loss = state.get("last_loss", self._first_loss)  # older ones have none

    def _advice(self, model: nn.Module) -> str:
        still = [name for name, value in model.named_parameters() if value.equal(self._first[name])]
        if len(still) == len(self._first):
            return "No parameter moved: does the loss depend on them, and is the learning rate above 0?"
        moved = (
            f"These parameters never moved: {', '.join(still[:8])}{' …' if len(still) > 8 else ''}. " if still else ""
        )
        return (
            f"{moved}Try another training.learning_rate and more training.max_steps; then look for what the loss holds "
            "besides the error, for equal inputs with different labels, and for gradients that are cut off."
        )


def _as_in_evaluation(model: nn.Module, _: Any) -> None:
    if model.training:
        for module in model.modules():
            module.training = isinstance(module, BatchNorm)
