"""Every exception of the engine, and the exit code that a command ends with because of it."""

from collections.abc import Sequence
from dataclasses import dataclass

FAILED, WRONG_INPUT, DIFFERENT, TRY_AGAIN = 1, 2, 3, 75


class InputError(Exception):
    """The user's input is wrong. The message names the key or file; no traceback is shown; exit code 2."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one key of the config."""

    key: str
    message: str
    origin: str | None = None
    """The file or override that the value came from."""


class ConfigError(InputError):
    """All problems of a config at once, under one headline."""

    def __init__(self, problems: Sequence[Problem], headline: str | None = None) -> None:
        self.problems = tuple(problems)
        self.headline = headline or f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in the config"
        super().__init__("\n".join(_sentence(problem) for problem in problems))


def _sentence(problem: Problem) -> str:
    origin = f" ({problem.origin})" if problem.origin else ""
    return f"{problem.key}{origin}: {problem.message}"


class MissingExtra(InputError):
    """What `key` asks for needs a package that comes with an extra of `pyproject.toml`, and it is not installed."""

    def __init__(self, key: str, package: str, extra: str) -> None:
        super().__init__(
            f"{key}: needs {package}, which is not installed; it comes with the extra `{extra}`: "
            f"`uv sync --inexact --extra {extra}`, or `pip install -e '.[{extra}]'`"
        )


class RunInUse(InputError):
    """Another process works on the run."""


class Failure(Exception):
    """An expected failure: one message says what failed and what is still whole; no traceback; exit code 1."""


class CheckpointError(Failure):
    """A checkpoint is damaged or does not fit."""


class NonFiniteError(Failure, ArithmeticError):
    """A loss, gradient or metric is not a finite number."""


class NotLearned(Failure):
    """The loss of the batch that `debug=one_batch` repeats did not get near zero."""


class StorageError(Failure):
    """The disk is full, gone or not writable; what was there before is whole."""


class Incomplete(Failure):
    """A run is trained, but something that follows training could not be made."""


class ExportFailed(Exception):
    """The model cannot be written in a format, or computes something else there."""


class NondeterministicOperationError(RuntimeError):
    """An operation has no deterministic implementation, and `deterministic=strict` does not allow that."""


class ProcessLost(Exception):
    """Another process of this run is gone, and nothing can be computed without it; exit code 1."""


class EvaluationStopped(Exception):
    """An evaluation was asked to end before all batches were scored."""


class JobProcessLost(Exception):
    """The process of a job ended and said nothing; the message says what is known, `output` what it printed last."""

    def __init__(self, message: str, output: str | None = None) -> None:
        super().__init__(message)
        self.output = output


class CheckFailed(Exception):
    """A line of the reproducibility checklist is not as it should be; the message says how."""


class CheckNotApplicable(Exception):
    """There is nothing to judge for a line of the checklist, or no file says; the message says why."""


class TemporaryTrackerError(Exception):
    """The server of a tracker does not answer; the same lines are sent again later."""


class PermanentTrackerError(Exception):
    """Another try would not help: something has to be set up first. The message says what."""


class Different(Exception):
    """`reproduce` or `audit` found a difference and has printed it; exit code 3."""


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run after saving; the same command carries on; exit code 75."""

    advice = "The same command carries on."

    def __init__(self, reason: str, at_once: bool = False) -> None:
        super().__init__(reason)
        self.at_once = at_once
        """Whether nothing may be waited for, not even what is still being written."""
