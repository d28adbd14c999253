"""Jobs through submitit: in the queue of a Slurm cluster, and as processes of this machine in the same manner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

import submitit
from submitit.helpers import DelayedSubmission

from reprise.cli.sweep.launcher import ComposedJob
from reprise.cli.sweep.worker_processes import RecordAwaited, begin_worker, carry_out, died, hydra_state
from reprise.errors import JobProcessLost
from reprise.files.json_file import read_object
from reprise.tools.sweep.job_record import JobRecord

_MOST_LINES = 40
_MOST_JOBS_OF_AN_ARRAY = 1000
"""Slurm's own limit, unless a cluster sets another one."""
_SECONDS_BETWEEN_QUERIES = 10.0
_SECONDS_FOR_FILES = 30.0
"""How long what a job wrote may take to be seen from another machine."""


class SubmittedJob:
    """What submitit calls, in the job's process; a job that is queued again calls it again and carries its run on."""

    def __init__(self, job: ComposedJob, is_local: bool) -> None:
        self._job, self._state, self._is_local = job, hydra_state(), is_local

    def __call__(self, overrides: list[str], gpu: str | None = None) -> JobRecord:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        begin_worker(self._state, parent=None, in_own_group=self._is_local)
        queue_again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's answer to the time limit
        is_out_of_time = []

        def save_first(number: int, frame: FrameType | None) -> None:
            is_out_of_time.append(number)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGUSR2, save_first)
        outcome = carry_out(self._job, overrides)
        if outcome["status"] == "interrupted":
            if is_out_of_time or "SIGUSR1" in outcome["reason"]:  # what clusters announce a preemption with
                queue_again(signal.SIGUSR2, None)
            if not self._is_local:
                # Slurm queues a preempted job again after it has killed it, but not if it ended before that.
                while True:
                    signal.pause()
            sys.exit(1)
        return outcome

    def checkpoint(self, overrides: list[str], gpu: str | None = None) -> DelayedSubmission:
        """Return what is to be submitted instead, for submitit: the same."""
        return DelayedSubmission(self, overrides, gpu)


class _Handle(NamedTuple):
    job: submitit.Job[JobRecord]
    record: RecordAwaited


class _SubmititJobs:
    def __init__(self, job: ComposedJob, executor: Any) -> None:
        self._executor = executor
        self._directory = job.job.directory
        self._call = SubmittedJob(job, isinstance(executor, submitit.LocalExecutor))

    def outcome(self, handle: _Handle) -> JobRecord:
        if handle.record.is_there():
            return read_object(handle.record.path)
        log = handle.job.paths.stderr
        output = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        raise JobProcessLost(died(None), "\n".join([f"{log}:", *output[-_MOST_LINES:]]))


class LocalJobs(_SubmititJobs):
    """A process for each job, which outlives the one that started it."""

    def __init__(self, job: ComposedJob, executor: Any, parameters: Mapping[str, Any], gpus: Sequence[str]) -> None:
        super().__init__(job, executor)
        self._gpus = gpus
        # submitit names GPUs by number only; the job takes its own from `gpu`.
        executor.update_parameters(**parameters, gpus_per_node=0)

    def start(self, jobs: Sequence[tuple[int, list[str]]]) -> Sequence[_Handle]:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # they share cores
        handles = []
        for slot, overrides in jobs:
            gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
            record = RecordAwaited(self._directory, overrides)
            with _ctrl_c_ignored():  # by the new process: it would kill the job before that could save
                handles.append(_Handle(self._executor.submit(self._call, overrides, gpu), record))
        return handles

    def ended(self, running: Sequence[_Handle]) -> Sequence[_Handle]:
        time.sleep(0.2)
        return [handle for handle in running if handle.job.done()]

    def stop(self, running: Sequence[_Handle], number: int) -> None:
        for handle in running:
            with suppress(ProcessLookupError):
                os.kill(int(handle.job.job_id), signal.SIGTERM)  # the process above the job, which passes on only this


class SlurmJobs(_SubmititJobs):
    """Jobs of Slurm arrays, at most `num_at_once` of an array at a time."""

    _is_stopping = False
    _next_query = 0.0

    def __init__(self, job: ComposedJob, executor: Any, parameters: Mapping[str, Any], num_at_once: int | None) -> None:
        super().__init__(job, executor)
        self._seen: dict[str, float] = {}
        """When each job was last seen in the queue, or was put there."""
        # A step has one core since Slurm 22.05, whatever the job has, unless it is told as well.
        srun = [f"--cpus-per-task={parameters['cpus_per_task']}"]
        executor.update_parameters(
            **parameters, slurm_srun_args=srun, slurm_array_parallelism=num_at_once or _MOST_JOBS_OF_AN_ARRAY
        )

    def start(self, jobs: Sequence[tuple[int, list[str]]]) -> Sequence[_Handle]:
        handles = []
        for first in range(0, len(jobs), _MOST_JOBS_OF_AN_ARRAY):
            overrides = [overrides for _, overrides in jobs[first : first + _MOST_JOBS_OF_AN_ARRAY]]
            records = [RecordAwaited(self._directory, lines) for lines in overrides]
            submitted = self._executor.map_array(self._call, overrides)
            handles += [_Handle(job, record) for job, record in zip(submitted, records, strict=True)]
        self._seen |= dict.fromkeys((handle.job.job_id for handle in handles), time.monotonic())
        return handles

    def ended(self, running: Sequence[_Handle]) -> Sequence[_Handle]:
        time.sleep(1)
        now = time.monotonic()
        if now >= self._next_query or self._is_stopping:
            self._seen |= dict.fromkeys(_queued({handle.job.job_id for handle in running}), now)
            self._next_query = now + _SECONDS_BETWEEN_QUERIES
        patience = 0.0 if self._is_stopping else _SECONDS_FOR_FILES + _SECONDS_BETWEEN_QUERIES
        return [
            handle
            for handle in running
            if handle.job.paths.result_pickle.exists()
            or (self._is_stopping and handle.record.is_there())
            or now - self._seen[handle.job.job_id] > patience
        ]

    def stop(self, running: Sequence[_Handle], number: int) -> None:
        self._is_stopping = True
        subprocess.run(["scancel", *(handle.job.job_id for handle in running)], check=False)


def _queued(job_ids: Collection[str]) -> Collection[str]:
    """Return which jobs are waiting or running, all of them if Slurm does not answer."""
    arrays = ",".join(sorted({job_id.split("_")[0] for job_id in job_ids}))
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={arrays}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return {line.strip() for line in answer.stdout.splitlines()}.intersection(job_ids)
    return [] if "Invalid job id" in answer.stderr else job_ids  # it has forgotten them


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
