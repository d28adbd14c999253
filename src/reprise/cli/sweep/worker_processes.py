"""Jobs in other processes: one after another into each slot, what they share of a machine, and how they are stopped."""

import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals

from reprise.cli.output import keep_output_working
from reprise.errors import InputError, Interrupted, JobProcessLost, MissingExtra
from reprise.runs.sweep_directory import SweepDirectory
from reprise.tools.sweep.job_record import JobRecord, record_job, run_id_of
from reprise.training.signals import SIGNALS, signals_to_handle

_working = threading.Lock()
"""Held while this process carries out a job."""


def died(how: str | None) -> str:
    """Return what is said of a process that ended by itself."""
    return f"its process ended without a word ({how or 'how is not known'}); SIGKILL often means that memory ran out"


class RecordAwaited:
    """The record of a job, which may have one from an earlier attempt."""

    def __init__(self, directory: SweepDirectory, overrides: Sequence[str]) -> None:
        self.path = directory.record(run_id_of(directory.sweep_id, overrides))
        self._before = self._written()

    def is_there(self) -> bool:
        """Return whether it was written since this was made."""
        return self._written() != self._before

    def _written(self) -> int | None:
        with suppress(FileNotFoundError):
            return self.path.stat().st_mtime_ns
        return None


class JobProcesses(Protocol):
    """Where jobs run; a handle stands for one that was started."""

    def start(self, jobs: Sequence[tuple[int, list[str]]]) -> Sequence[Any]:
        """Start jobs, given as slot and overrides, and return their handles."""

    def ended(self, running: Sequence[Any]) -> Sequence[Any]:
        """Wait for about a second, or until one has ended; return those that have."""

    def outcome(self, handle: Any) -> JobRecord:
        """Return how a job that has ended did.

        Raises:
            JobProcessLost: if it cannot say.
        """

    def stop(self, running: Sequence[Any], number: int) -> None:
        """Tell jobs to save and end, with the signal of this number where there is a choice."""


def outcomes(
    processes: JobProcesses, directory: SweepDirectory, jobs: Iterator[list[str]], num_at_once: int
) -> Iterator[JobRecord]:
    """Yield how the jobs with these overrides ended, `num_at_once` of them at a time; each is taken when it can start.

    At a signal the jobs under way save and end, and no other is started.

    Raises:
        Interrupted: then.
    """
    free = list(range(num_at_once))[::-1]
    running: list[tuple[int, list[str], Any]] = []
    num_passed_on = 0
    with _signals_counted() as signals:
        while True:
            begun: list[tuple[int, list[str]]] = []
            while free and not signals and (overrides := next(jobs, None)) is not None:
                begun.append((free.pop(), overrides))
            if begun:
                running += [(*one, handle) for one, handle in zip(begun, processes.start(begun), strict=True)]
            if not running:
                break
            if len(signals) > num_passed_on:
                num_passed_on = len(signals)
                processes.stop([handle for *_, handle in running], signals[-1])
            ended = processes.ended([handle for *_, handle in running])
            done = [one for one in running if one[2] in ended]
            running = [one for one in running if one[2] not in ended]
            for slot, overrides, handle in done:
                free.append(slot)
                try:
                    yield processes.outcome(handle)
                except JobProcessLost as lost:
                    if not signals:
                        run_id = run_id_of(directory.sweep_id, overrides)
                        yield record_job(directory, run_id, overrides, "failed", str(lost), lost.output)
    if signals:
        raise Interrupted(f"by {signal.Signals(signals[0]).name}")


def imported(package: str, extra: str, key: str) -> Any:
    """Return a package that comes with one of our extras, and that the choice of `key` takes.

    Raises:
        MissingExtra: if it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtra(key, package, extra) from None


def num_slots(num_at_once: int | None, gpus: Sequence[str]) -> int:
    """Return how many jobs run at a time on this machine: as asked, or one for each GPU or core.

    Raises:
        InputError: if what is asked is no such number.
    """
    if num_at_once is not None and (not isinstance(num_at_once, int) or num_at_once < 1):
        raise InputError(f"hydra.launcher.n_jobs: expected an integer ≥ 1 or null, got {num_at_once!r}")
    return num_at_once or len(gpus) or num_cores()


def threads_each(num_at_once: int) -> int:
    """Return a job's fair share of the cores that this process may use."""
    return max(1, num_cores() // num_at_once)


def num_cores() -> int:
    import joblib

    return int(joblib.cpu_count())  # knows of affinity and of a container's share


def visible_gpus(device: str) -> list[str]:
    """Return the GPUs that runs on `training.device` may be given, as CUDA_VISIBLE_DEVICES names them."""
    if device not in ("auto", "cuda") or not any(
        Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    ):
        return []
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def hydra_state() -> Any:
    """Return what Hydra knows in this process, for `begin_worker` in another."""
    return Singleton.get_state()


def begin_worker(state: Any, parent: int | None, in_own_group: bool = True) -> None:
    """Prepare a process for jobs: Hydra as it was, logging, no bars, and signals for the run alone.

    `parent`: the process without which this one is to end, once its job has saved. `in_own_group`: Ctrl-C reaches only
    who started it, and passes it on.
    """
    keep_output_working()
    setup_globals()
    Singleton.set_state(state)
    logging.captureWarnings(True)
    logging.getLogger().setLevel(logging.INFO)  # for train.log
    sys.stdout.isatty = lambda: False  # type: ignore[method-assign]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # between jobs
    if in_own_group:
        os.setpgid(0, 0)
    if parent is not None:
        threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def carry_out(job: Any, overrides: list[str]) -> JobRecord:
    with _working:
        outcome: JobRecord = job(overrides)
    return outcome


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    with _working:
        os._exit(1)


@contextmanager
def _signals_counted() -> Iterator[list[int]]:
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, note) for number in signals_to_handle()}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
