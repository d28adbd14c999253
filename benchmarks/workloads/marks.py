"""Where a process stands at chosen steps: its CPU time, the clock, its memory. Every contestant reports in this way."""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn


class Marks:
    """Is told of every step and notes those in `at`, counted from 1; after the last of them the report is written.

    With `leave` the process ends there, at once: what a run does after training is no part of a step.
    """

    def __init__(self, report: str, at: Iterable[int], leave: bool = True) -> None:
        self._report = Path(report)
        self._at = frozenset(at)
        self._last = max(self._at)
        self._leave = leave
        self._marks: dict[int, dict[str, float]] = {}

    def step_done(self, step: int, **facts: Any) -> None:
        """`facts` stand in the report if this is the last step that is looked at."""
        if step in self._at:
            self._marks[step] = state_of_process()
            if step == self._last:
                self._report.write_text(json.dumps({"marks": self._marks, **facts}))
                if self._leave:
                    os._exit(0)


def state_of_process() -> dict[str, float]:
    """Return CPU and wall seconds, and resident memory now and at its peak, in bytes.

    CPU time is that of all threads and of the child processes that have ended. With a GPU in use, all that was sent to
    it is done by then; `gpu_peak` is the most of its memory that was allocated.
    """
    torch, gpu_peak = sys.modules.get("torch"), 0
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        gpu_peak = torch.cuda.max_memory_allocated()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "cpu": time.process_time() + children.ru_utime + children.ru_stime,
        "wall": time.perf_counter(),
        "resident": pages * resource.getpagesize(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "gpu_peak": gpu_peak,
    }


def leave(report: Path, **facts: Any) -> NoReturn:
    """Write the report and end the process at once."""
    report.write_text(json.dumps(facts))
    os._exit(0)
