"""Jobs as tasks of a Ray cluster, or of one on this machine for as long as the sweep takes."""

import os
from collections.abc import Sequence
from typing import Any

import ray

from reprise.cli.sweep.launcher import ComposedJob
from reprise.cli.sweep.worker_processes import RecordAwaited, begin_worker, carry_out, died, hydra_state
from reprise.errors import JobProcessLost
from reprise.files.json_file import read_object
from reprise.tools.sweep.job_record import JobRecord


class RayJobs:
    def __init__(self, job: ComposedJob, num_cpus: int, num_gpus: int) -> None:
        self._directory = job.job.directory
        # A job that is lost is not tried again by itself: the same command does.
        task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)(_carry_out)
        self._start, self._arguments = task.remote, (ray.put(job), ray.put(hydra_state()), os.getcwd())
        self._awaited: dict[Any, RecordAwaited] = {}

    def start(self, jobs: Sequence[tuple[int, list[str]]]) -> Sequence[Any]:
        references = []
        for _, overrides in jobs:
            awaited = RecordAwaited(self._directory, overrides)
            references.append(self._start(*self._arguments, overrides))
            self._awaited[references[-1]] = awaited
        return references

    def ended(self, running: Sequence[Any]) -> Sequence[Any]:
        ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0.5)
        return list(ready)

    def outcome(self, handle: Any) -> JobRecord:
        awaited = self._awaited.pop(handle)
        try:
            outcome: JobRecord = ray.get(handle)
        except ray.exceptions.RayError as error:
            if awaited.is_there():  # what is stopped counts as cancelled, though it recorded how it ended
                return read_object(awaited.path)
            raise JobProcessLost(died(type(error).__name__), str(error)) from None
        return outcome

    def stop(self, running: Sequence[Any], number: int) -> None:
        for reference in running:
            ray.cancel(reference)  # SIGINT, as far as the job can tell


def _carry_out(job: ComposedJob, state: Any, directory: str, overrides: list[str]) -> JobRecord:
    os.chdir(directory)
    begin_worker(state, parent=None, in_own_group=False)
    return carry_out(job, overrides)
