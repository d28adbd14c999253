"""How many samples and optimizer steps an epoch and a run have, as arithmetic on the config and the size of a split."""

from reprise.config.schema import TrainingConfig
from reprise.errors import InputError
from reprise.training.cadence import num_steps_per_epoch, num_total_steps


def num_samples_of_epoch(training: TrainingConfig, num_samples: int) -> int:
    """Return on how many of the training split's samples an epoch trains.

    Raises:
        InputError: if none would be left.
    """
    if not training.drop_last:
        return num_samples
    if num_samples < training.batch_size:
        raise InputError(
            f"training.drop_last: the {num_samples} samples of the training split do not fill one batch of "
            f"training.batch_size={training.batch_size}, so that none would be left; give a smaller one"
        )
    return num_samples - num_samples % training.batch_size


def steps_of_epoch(training: TrainingConfig, num_samples: int) -> int:
    """Return the optimizer steps of an epoch; how many microbatches a step is cut into does not change them."""
    num_batches = -(-num_samples_of_epoch(training, num_samples) // training.batch_size)
    return num_steps_per_epoch(num_batches, training.gradient_accumulation)


def steps_of_run(training: TrainingConfig, num_samples: int, origin: int = 0) -> int:
    """Return the optimizer steps of a run that nothing ends early. `origin`: the step from which epochs are counted."""
    per_epoch = steps_of_epoch(training, num_samples)
    return num_total_steps(per_epoch, training.max_epochs, training.max_steps, origin)
