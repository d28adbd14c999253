"""The process that sends one run to one server; a `ServerTracker` starts it.

On stdin come the tracker with the run directory, pickled, and a line with the outcome of the attempt; if stdin ends
without that line, training was killed. On stdout go messages for the log, a line each. Exits with 0 when everything
has arrived.
"""

import contextlib
import logging
import os
import pickle
import queue
import sys
from threading import Thread, Timer
from typing import NoReturn, cast

from reprise.callbacks import Outcome
from reprise.runs.run_directory import RunDirectory
from reprise.trackers.base import Feed, held
from reprise.trackers.server import ServerTracker
from reprise.training.signals import ignore_signals

_SECONDS_AFTER_A_KILL = 10.0


def main() -> NoReturn:
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # to nowhere: what the clients of servers print may hold what nobody should read
    os.nice(10)  # training comes first
    ignore_signals()  # they are for the training process, which says how it ended

    def report(level: int, message: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            messages.write(f"{level} {message}\n")

    is_done = False
    try:
        tracker, directory = pickle.load(sys.stdin.buffer)
        outcomes: queue.Queue[str] = queue.Queue()
        Thread(target=lambda: outcomes.put(sys.stdin.buffer.readline().decode().strip()), daemon=True).start()
        # A worker whose training process was killed just now may still be busy with this run.
        with held(tracker.folder(directory) / ".lock"):
            is_done = _follow(tracker, directory, Feed(tracker, directory, report), outcomes)
    except Exception as error:
        report(logging.WARNING, f"{type(error).__name__}: {error}; the run goes on without it")
    os._exit(0 if is_done else 1)  # clients keep threads that may wait for a server without end


def _follow(tracker: ServerTracker, directory: RunDirectory, feed: Feed, outcomes: "queue.Queue[str]") -> bool:
    """Send lines as they come, and then the outcome; return whether everything has arrived."""
    parent, outcome = os.getppid(), None
    while outcome is None and not feed.has_failed:
        feed.send_if_due()
        try:
            outcome = outcomes.get(timeout=0.5)
        except queue.Empty:
            if os.getppid() != parent:  # a loader worker of a killed process holds stdin open for some seconds more
                outcome = ""
    if outcome:
        return feed.send(cast(Outcome, outcome))
    if outcome == "" and feed.is_open:
        # Training was killed. No more lines are sent: what no checkpoint covers is cut off when the run is resumed.
        Timer(_SECONDS_AFTER_A_KILL, os._exit, [1]).start()
        tracker.finish("interrupted", None, [])
    return False


if __name__ == "__main__":
    main()
