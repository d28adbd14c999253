"""Measures contestants side by side: each of every round in a fresh process, in alternating order, pinned to its cores.

Only ratios and differences within a round are compared, since a machine is never as fast as it was a minute ago. This
process imports no torch: a child's peak memory begins with its parent's.
"""

import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent
SLICE = 0.3
"""Seconds for which a contestant runs before the next has its turn."""


class Failed(Exception):
    """A contestant did not do its work."""


@dataclass(frozen=True)
class Contestant:
    """A command; `{report}` in it is the file that it reports to, `{outputs}` a directory of its own."""

    name: str
    command: tuple[str, ...]
    num_threads: int = 1


@dataclass(frozen=True)
class Measured:
    report: dict[str, Any]
    """What the process wrote down itself; empty if nothing."""
    cpu: float
    """Seconds of all threads, and of the child processes that it waited for."""
    peak: int
    """Most resident memory, in bytes."""


Round = dict[str, Measured]
"""One measurement of each contestant, by name."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `value` is held against `target`, the most that is allowed, if there is one."""

    what: str
    bare: str = ""
    floor: str = ""
    ours: str = ""
    value: str = ""
    target: str = ""
    reached: bool | None = None


def reprise_run(name: str, *overrides: str, num_threads: int = 1, device: str = "cpu") -> Contestant:
    """Return the real command, with what lies in `benchmarks/` put in as a user's own code is."""
    return Contestant(name, (*reprise_command(device), *overrides, f"num_threads={num_threads}"), num_threads)


def reprise_command(device: str = "cpu") -> tuple[str, ...]:
    return (
        str(REPOSITORY / "scripts" / "train.py"),
        f"hydra.searchpath=['file://{BENCHMARKS / 'configs'}']",
        "trusted_packages=[workloads]",
        "output_dir={outputs}",
        f"training.device={device}",
    )


def measurement(at: Sequence[int]) -> tuple[str, ...]:
    """Return the overrides that add the measuring callback; it ends the process at the last step."""
    return (
        "callbacks=[default,measurement]",
        "callbacks.measurement.report={report}",
        f"callbacks.measurement.at={list(at)}".replace(" ", ""),
    )


def peer(name: str, script: str, *arguments: object, num_threads: int = 1) -> Contestant:
    """Return a program of `contestants/`; its first arguments are report and outputs."""
    command = (str(BENCHMARKS / "contestants" / script), "{report}", "{outputs}", *map(str, arguments))
    return Contestant(name, command, num_threads)


def race(contestants: Sequence[Contestant], num_rounds: int, *, in_turns: bool = True) -> list[Round]:
    """Let all contestants run once a round, every other round in the opposite order.

    In turns means that all are under way together and one of them runs at a time, the others being stopped, so that
    each has its share of what else the machine does. Wall time means nothing then.
    """
    rounds = []
    for number in range(num_rounds):
        order = contestants if number % 2 == 0 else contestants[::-1]
        measured: Round = {}
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(_Process(contestant)) for contestant in order]
            while waiting:
                process = waiting.pop(0)
                if process.go_on(SLICE if in_turns and waiting else None):
                    measured[process.contestant.name] = process.result()
                else:
                    waiting.append(process)
        rounds.append(measured)
        print(f"  round {number + 1} of {num_rounds}", file=sys.stderr, flush=True)
    return rounds


def run(contestant: Contestant) -> Measured:
    """Let one contestant run alone.

    Raises:
        Failed: if it does not exit with 0.
    """
    (measured,) = race([contestant], 1)
    return measured[contestant.name]


class _Process:
    """One run of a contestant, in a process that only runs when it is told to go on."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self._usage: resource.struct_rusage | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="benchmark_")
        self._path = Path(self._scratch.name)
        (self._path / "outputs").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._usage is None:
            self._process.kill()
            self._process.wait()
        self._scratch.cleanup()

    def go_on(self, seconds: float | None) -> bool:
        """Let the process run for so long, or to its end; return whether it has ended."""
        if self._process is None:
            self._process = self._start()
        else:
            os.kill(self._process.pid, signal.SIGCONT)
        if seconds is not None:
            time.sleep(seconds)
        pid, status, usage = os.wait4(self._process.pid, 0 if seconds is None else os.WNOHANG)
        if pid == 0:
            os.kill(self._process.pid, signal.SIGSTOP)
            return False
        self._process.returncode, self._usage = os.waitstatus_to_exitcode(status), usage
        return True

    def result(self) -> Measured:
        assert self._process is not None
        assert self._usage is not None
        if self._process.returncode != 0:
            printed = (self._path / "printed").read_text()
            raise Failed(f"{self.contestant.name} exited with {self._process.returncode}:\n{printed}")
        report = self._path / "report"
        content = json.loads(report.read_text()) if report.exists() else {}
        return Measured(content, self._usage.ru_utime + self._usage.ru_stime, self._usage.ru_maxrss * 1024)

    def _start(self) -> "subprocess.Popen[bytes]":
        num_threads = self.contestant.num_threads
        cores = sorted(os.sched_getaffinity(0))[-num_threads:]
        if len(cores) < num_threads:
            raise Failed(f"{self.contestant.name}: needs {num_threads} cores, here are {len(cores)}")
        command = [sys.executable, *self.contestant.command]
        for name in ("report", "outputs"):
            command = [argument.replace(f"{{{name}}}", str(self._path / name)) for argument in command]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": str(num_threads),
            # Threads that wait for others would count as busy, and with other work on the machine they wait long.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        with (self._path / "printed").open("w") as printed:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )


def compare(
    what: str,
    rounds: Sequence[Round],
    amount: Callable[[Measured], float],
    *,
    ours: str = "ours",
    over: str,
    most: float | None,
    scale: float = 1e6,
    unit: str = "µs",
    difference: bool = False,
) -> Row:
    """Return the row that holds ours against `over`, `bare` or `floor`: a ratio, or a difference in `unit`.

    `amount` reads what is compared from a measurement; times `scale` it is in `unit`. `most` is the target.
    """
    medians = {
        name: statistics.median(amount(measured[name]) for measured in rounds) * scale
        for name in ("bare", "floor", ours)
        if name in rounds[0]
    }
    pairs = [(amount(measured[ours]), amount(measured[over])) for measured in rounds]
    values = [(mine - theirs) * scale if difference else mine / theirs for mine, theirs in pairs]
    value, lowest, highest = statistics.median(values), min(values), max(values)
    if difference:
        digits = 0 if unit in ("MB", "ms") else 2
        text = f"{over} {value:+.{digits}f} {unit} ({lowest:+.{digits}f} to {highest:+.{digits}f})"
        target = "" if most is None else f"≤ {most:+g} {unit}"
    else:
        text = f"{value:.3f} × {over} ({lowest:.3f} to {highest:.3f})"
        target = "" if most is None else f"≤ {most:g} ×"
    shown = {
        name: f"{median:.3g} {unit}" if median < 100 else f"{median:.0f} {unit}" for name, median in medians.items()
    }
    return Row(
        what,
        shown.get("bare", ""),
        shown.get("floor", ""),
        shown[ours],
        text,
        target,
        None if most is None else value <= most,
    )
