"""Jobs in processes of this machine that joblib's loky keeps from job to job; each slot has its own, and a GPU."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

from reprise.cli.sweep.launcher import ComposedJob
from reprise.cli.sweep.worker_processes import begin_worker, carry_out, died, hydra_state
from reprise.errors import JobProcessLost
from reprise.private_names.loky import process_ids
from reprise.tools.sweep.job_record import JobRecord


class LokyWorkers:
    def __init__(self, job: ComposedJob, gpus: Sequence[str]) -> None:
        self._job, self._gpus, self._state = job, gpus, hydra_state()
        self._executors: dict[int, Any] = {}
        self._slots: dict[Future[JobRecord], int] = {}

    def start(self, jobs: Sequence[tuple[int, list[str]]]) -> Sequence[Future[JobRecord]]:
        futures = []
        for slot, overrides in jobs:
            if slot not in self._executors:
                self._executors[slot] = self._executor(slot)
            future = self._executors[slot].submit(carry_out, self._job, overrides)
            self._slots[future] = slot
            futures.append(future)
        return futures

    def ended(self, running: Sequence[Future[JobRecord]]) -> Sequence[Future[JobRecord]]:
        return list(wait(running, timeout=1, return_when=FIRST_COMPLETED).done)

    def outcome(self, handle: Future[JobRecord]) -> JobRecord:
        slot = self._slots.pop(handle)
        try:
            return handle.result()
        except BrokenProcessPool as error:
            self._executors.pop(slot).shutdown(wait=False)
            codes = re.search(r"\{(.+?)\}", str(error))
            raise JobProcessLost(died(codes[1] if codes else None)) from None

    def stop(self, running: Sequence[Future[JobRecord]], number: int) -> None:
        for future in running:
            for process_id in process_ids(self._executors[self._slots[future]]):
                os.kill(process_id, number)

    def close(self) -> None:
        for executor in self._executors.values():
            executor.shutdown(kill_workers=True)

    def _executor(self, slot: int) -> Any:
        environment = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}  # they share cores
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return ProcessPoolExecutor(
            max_workers=1, initializer=begin_worker, initargs=(self._state, os.getpid()), env=environment
        )
