"""Finds batches of one sample that batch norm cannot be trained with, by arithmetic and before the epoch ends."""

from reprise.data import on_device
from reprise.errors import InputError
from reprise.models import evaluating
from reprise.private_names.torch import BatchNorm
from reprise.runs.building import Task

TOO_FEW = "Expected more than 1 value per channel when training"
"""How torch's message begins: the variance of one value is none."""


def check_lone_samples(task: Task) -> None:
    """Raise an InputError if a training batch has one sample, and the model has a batch norm that fails for it.

    Whether it does depends on its place: one of images has as many values of a channel as an image has pixels. So the
    model is tried with one sample; what that changes is put back.
    """
    if _meets_lone_sample(task) and any(isinstance(module, BatchNorm) for module in task.model.modules()):
        batch, model = on_device(task.first_sample(), task.device), task.model
        try:
            with evaluating(model), task.autocast():
                model.train()
                model.forward(**batch)  # not a call, which may compile
        except ValueError as error:
            if str(error).startswith(TOO_FEW):
                raise _lone_sample(task) from error


def _meets_lone_sample(task: Task) -> bool:
    """Return whether a forward pass of training has one sample."""
    batches, training = task.microbatches(), task.config.training
    if batches.batch_size == 1:
        return True
    if training.max_steps is not None and training.max_steps < batches.steps_per_epoch:
        return False  # the end of an epoch is never reached
    if training.overfit_batches is not None and training.overfit_batches < len(batches):
        return False
    return batches.num_samples % batches.batch_size == 1


def _lone_sample(task: Task) -> InputError:
    batches, training = task.microbatches(), task.config.training
    if batches.batch_size == 1:
        return InputError(
            "training.batch_size: each forward pass has one sample, and the model has a batch norm that needs two or "
            "more; give a larger batch_size or, beside num_microbatches, fewer of them, or take another norm"
        )
    return InputError(
        f"training.drop_last: an epoch of {batches.num_samples} samples ends with a batch of one, and the model has a "
        f"batch norm that needs two or more; leave the last batch out (training.drop_last=true), or give another "
        f"training.batch_size than {training.batch_size}"
    )
