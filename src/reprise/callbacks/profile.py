"""Records where the time of a few steps goes, with torch's own profiler."""

import logging
from typing import Any

import torch

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.config import NonNegativeInt, PositiveInt
from reprise.files.atomic_file import write_text

logger = logging.getLogger(__name__)

_ROWS_IN_FILE, _ROWS_SHOWN = 50, 10


class Profile(Callback):
    """After `wait` steps and `warmup` steps, of which nothing is kept, records `active` optimizer steps.

    `logs/profile/` gets `trace.json`, which opens in https://ui.perfetto.dev and in chrome://tracing, and
    `operators.txt`, the operators that took longest. The data's loading and whatever callbacks do is part of a step.
    """

    def __init__(self, wait: NonNegativeInt = 2, warmup: PositiveInt = 2, active: PositiveInt = 6) -> None:
        self._wait, self._warmup, self._active = wait, warmup, active
        self._profiler: Any = None

    def on_train_start(self, run: Run) -> None:
        from torch import profiler

        self._run = run
        self._num_steps = 0
        activities = [profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profiler = profiler.profile(
            activities=activities,
            schedule=profiler.schedule(wait=self._wait, warmup=self._warmup, active=self._active, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
            profile_memory=True,
            acc_events=True,  # there is one cycle alone; torch 2.11 warns of what others would lose
        )
        self._profiler.start()

    def on_step_end(self, run: Run) -> None:
        if self._profiler is not None:
            self._profiler.step()
            self._num_steps += 1
            if self._num_steps == self._wait + self._warmup + self._active:
                self._stop()

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        if self._profiler is not None and self._num_steps < self._wait + self._warmup + self._active:
            logger.warning(
                "profile: the run ended after %d steps; %d are needed", self._num_steps, self._wait + self._warmup + 1
            )
            self._stop()

    def _stop(self) -> None:
        self._profiler.stop()
        self._profiler = None

    def _write(self, profiler: Any) -> None:
        folder = self._run.directory.profile
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / ".trace.json.tmp"
        profiler.export_chrome_trace(str(scratch))
        scratch.replace(folder / "trace.json")
        averages = profiler.key_averages()
        on_gpu = any(event.self_device_time_total for event in averages)
        column = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        write_text(
            folder / "operators.txt",
            averages.table(sort_by=column.replace("device", "cuda"), row_limit=_ROWS_IN_FILE, max_name_column_width=80),
        )
        events = sorted(averages, key=lambda event: -getattr(event, column))
        total = sum(getattr(event, column) for event in events) or 1.0
        rows = []
        for event in events[:_ROWS_SHOWN]:
            microseconds = getattr(event, column)
            name = "no operator: Python, data, callbacks" if event.key == "ProfilerStep*" else event.key
            rows.append(f"  {microseconds / total:6.1%}  {microseconds / 1000:9.2f} ms  {event.count:6,} ×  {name}")
        of = "the GPU" if on_gpu else "one CPU thread"
        logger.info("operators that took longest, by their own time on %s:\n%s", of, "\n".join(rows))
        logger.info("profile of %d steps: %s, for https://ui.perfetto.dev", self._active, folder / "trace.json")
