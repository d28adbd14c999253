"""Private names of Optuna."""

from typing import Any


def trial_id(trial: Any) -> int:
    """Return the id of a trial in its storage, by which another process reports to it; only its number is public."""
    number: int = trial._trial_id
    return number
