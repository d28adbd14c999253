"""Ends an attempt at a run: calls the callbacks, records how it ended, and raises what stopped it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from reprise.callbacks import Callback, Outcome
from reprise.config.secrets import hidden_in_text
from reprise.errors import InputError, Interrupted, ProcessLost
from reprise.runs.attempt_record import end_attempt
from reprise.runs.beginning import Beginning
from reprise.runs.products import making
from reprise.runs.stages import RunBeforeTraining, RunInTraining

logger = logging.getLogger(__name__)


def end(
    run: RunBeforeTraining, started: dict[str, Callback], error: BaseException | None, beginning: Beginning
) -> None:
    """Call the callbacks at the end of the attempt, record how it ended, and raise what stopped it, if anything did."""
    ending = _Ending(error, isinstance(error, InputError) and not beginning.is_done)
    if ending.outcome == "failed" and not isinstance(error, InputError):
        logger.error("the run failed: %s", error, exc_info=error)
    for name, callback in started.items():
        is_trained = ending.error is None and run.processes.is_first
        with (
            ending.continued(f"callbacks.{name} failed at the end of the run", fails_run=True),
            making(run, f"callbacks.{name}") if is_trained else nullcontext(),
        ):
            callback.on_run_end(run, ending.outcome)
    for name, callback in reversed(started.items()):
        with ending.continued(f"callbacks.{name} failed to close", fails_run=False):
            callback.on_close(run, ending.outcome)
    loop = run.loop if isinstance(run, RunInTraining) else None
    if run.processes.is_first and ending.outcome != "refused":
        if not beginning.is_done:
            beginning.carry_out(with_changes=False)
        reason = loop.stop_reason or f"{loop.step} steps done" if loop is not None else ""
        if ending.error is not None:
            reason = f"{type(ending.error).__name__}: {ending.error}"
        try:
            end_attempt(
                run.directory,
                ending.outcome,
                hidden_in_text(reason),
                None if loop is None else loop.step,
                {part: hidden_in_text(f"{type(why).__name__}: {why}") for part, why in run.missing.items()},
            )
        except OSError as full:
            logger.warning("how the attempt ended cannot be recorded: %s", full)
            ending.keep(full)
    if isinstance(ending.error, Interrupted) and loop is not None and loop.interruption is not None:
        run.processes.wait()  # torchrun ends all when the first of them ends, and it may still be writing
    if ending.error is not None:
        raise ending.error


class _Ending:
    """How an attempt ends: by the first error, if there is one."""

    def __init__(self, error: BaseException | None, is_refusal: bool) -> None:
        self.error = error
        self._is_refusal = is_refusal

    @property
    def outcome(self) -> Outcome:
        if self._is_refusal:
            return "refused"
        if self.error is None:
            return "completed"
        return "interrupted" if isinstance(self.error, KeyboardInterrupt | ProcessLost) else "failed"

    def keep(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error

    @contextmanager
    def continued(self, message: str, *, fails_run: bool) -> Iterator[None]:
        """Log what is raised inside the block and go on; a signal, or any error if it `fails_run`, is how it ends."""
        try:
            yield
        except KeyboardInterrupt as stopped_by:
            self.keep(stopped_by)
        except Exception as raised:
            logger.exception(message)
            if fails_run:
                self.keep(raised)
