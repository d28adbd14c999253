"""Handles the signals to stop: those of terminals, SIGINT and SIGHUP, and those that schedulers send."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from reprise.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_WHERE_THEY_END_THE_PROCESS = (signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU)
"""`nohup` ignores the first of them, and submitit handles the second."""


class Saving(Protocol):
    """What finishes its step and saves when `interrupt` is called."""

    @property
    def is_running(self) -> bool: ...

    @property
    def is_asked_to_return(self) -> bool: ...

    def interrupt(self, reason: str) -> None: ...


class Stoppable:
    """Until there is something to be saved, a signal stops at once."""

    saving: Saving | None = None
    stops_at_once: bool = False
    """Whether there was a signal while the step was finished and saved for another one."""
    is_shared: bool = False
    """Whether several processes work on it. A scheduler may send a signal to all of them and to torchrun, which passes
    it on; so a second one is the first one again. Those that do not end are killed by torchrun."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.saving is None or not self.saving.is_running:
            raise Interrupted(f"by {name}")
        if not self.saving.is_asked_to_return:
            self.saving.interrupt(name)
            return
        if self.is_shared:
            return
        self.stops_at_once = True
        raise Interrupted(f"by {name} at once, with the last checkpoint as it was", at_once=True)


def signals_to_handle() -> list[signal.Signals]:
    """Return the signals that stop a run in this process."""
    handlers = {number: signal.getsignal(number) for number in _WHERE_THEY_END_THE_PROCESS}
    # Within another `stopped_by_signals` there is the handler of that.
    ours = [n for n, now in handlers.items() if now == signal.SIG_DFL or isinstance(_owner(now), Stoppable)]
    return [*SIGNALS, *ours]


def _owner(handler: object) -> object:
    return getattr(handler, "__self__", None)


@contextmanager
def stopped_by_signals(stoppable: Stoppable | None = None) -> Iterator[None]:
    """Have `stoppable` handle signals; without it, or where nothing is to be saved, they raise Interrupted."""
    handle = (stoppable or Stoppable()).handle
    previous = {number: signal.signal(number, handle) for number in signals_to_handle()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


def ignore_signals() -> None:
    """Have no signal change how this process ends, from now on; `stopped_by_signals` leaves it at that."""
    for number in (*SIGNALS, *_WHERE_THEY_END_THE_PROCESS):
        signal.signal(number, signal.SIG_IGN)


def leave_signals_to_the_parent(worker: int = 0) -> None:
    """Keep a loader process working while its parent finishes a step: a terminal and a scheduler signal both.

    The second SIGTERM ends it. That is its parent's, which also ends those that hang.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(1)

    def end_at_the_next(number: int, frame: FrameType | None) -> None:
        signal.signal(number, end)

    ignore_signals()
    signal.signal(signal.SIGTERM, end_at_the_next)
