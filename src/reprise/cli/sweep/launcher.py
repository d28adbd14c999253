"""What all launchers do: leave out what is complete, put the other jobs into processes, pass on how they ended."""

import abc
import itertools
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from reprise.cli.composing import as_job, validated
from reprise.cli.config_files import loader
from reprise.cli.job_configs import JobConfigs
from reprise.cli.sweep.job import SweepJob
from reprise.config import ExperimentConfig
from reprise.config.checking import show
from reprise.config.composed import Composed
from reprise.errors import ConfigError, Interrupted, Problem
from reprise.files.json_file import read_object
from reprise.runs.sweep_directory import SweepDirectory
from reprise.tools.sweep.documents import write_summary
from reprise.tools.sweep.job_record import JobRecord, run_id_of

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SUMMARIES = 60.0
_SHARE_OF_SUMMARIES = 0.01
"""The largest part of the time that goes into summaries while a sweep is under way."""


@dataclass(frozen=True)
class ComposedJob:
    """Composes a job's config and carries it out, here or in another process."""

    master_config: DictConfig
    job: SweepJob

    def __call__(self, overrides: Sequence[str]) -> JobRecord:
        return self.job.carry_out(overrides, lambda: self._compose(overrides))

    def _compose(self, overrides: Sequence[str]) -> Composed:
        return validated(as_job(loader().load_sweep_config(self.master_config, list(overrides))))


class SweepLauncher(Launcher):
    """Returns the outcome of each job as Hydra's `return_value`; jobs that failed are no errors."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        assert isinstance(task_function, SweepJob)
        self.job = ComposedJob(config, task_function)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return how the jobs ended.

        Raises:
            ConfigError: before any is started, if the run of one is there with another config.
            Interrupted: if a signal stopped the sweep; what was under way has been saved.
        """
        directory = self.directory
        jobs = {run_id_of(directory.sweep_id, overrides): list(overrides) for overrides in job_overrides}
        self.check(jobs.values())
        outcomes = {run_id: found for run_id in jobs if (found := completed(directory, run_id)) is not None}
        if outcomes:
            logger.info("%d of %d jobs are complete already", len(outcomes), len(jobs))
        pending = [overrides for run_id, overrides in jobs.items() if run_id not in outcomes]
        keys = _differing_keys(list(jobs.values()))
        for outcome in self.carry_out(iter(pending), keys, num_jobs=len(jobs), num_done=len(outcomes)):
            outcomes[outcome["run_id"]] = outcome
        return [_returned(outcomes[run_id_of(directory.sweep_id, overrides)]) for overrides in job_overrides]

    def check(self, job_overrides: Iterable[Sequence[str]]) -> None:
        """Check that the runs of these jobs that exist have the configs that are asked for.

        Raises:
            ConfigError: for the first that has another.
        """
        configs = JobConfigs()
        for overrides in job_overrides:
            run = self.directory.run(run_id_of(self.directory.sweep_id, overrides))
            if not run.config.exists():
                continue
            saved, asked = ExperimentConfig.load(run.config), configs.config(overrides)
            if differences := saved.differences(asked.with_resolved_values_of(saved)):
                raise ConfigError(
                    [Problem(d.key, f"{show(d.first)} there, {show(d.second)} asked for") for d in differences],
                    f"the run {run.run_id!r} of this sweep exists with another config; choose another sweep_id",
                )

    def carry_out(
        self,
        jobs: Iterator[list[str]],
        keys: Collection[str],
        *,
        num_jobs: int,
        num_done: int = 0,
        num_at_once: int | None = None,
    ) -> Iterator[JobRecord]:
        """Carry out the jobs with these overrides and yield how each ended, as they end.

        A job is taken from `jobs` when there is room for it. `keys`: by which a job is called on the console.
        `num_jobs`: those of the sweep, of which `num_done` are complete. `num_at_once`: null: as many as there is room
        for.

        Raises:
            Interrupted: if a signal stopped the sweep; what was under way has been saved.
        """
        first = next(jobs, None)
        if first is None:
            return
        stopped: list[str] = []
        due = time.monotonic() + _SECONDS_BETWEEN_SUMMARIES
        for num_ended, outcome in enumerate(
            self._outcomes(itertools.chain([first], jobs), num_at_once or num_jobs), num_done + 1
        ):
            reason = f": {outcome['reason']}" if outcome["reason"] else ""
            what = " ".join(line for line in outcome["overrides"] if line.split("=")[0] in keys)
            logger.info("job %d of %d  %s  %s%s", num_ended, num_jobs, what, outcome["status"], reason)
            yield outcome
            if outcome["status"] == "interrupted":
                stopped.append(outcome["reason"])
            if (started := time.monotonic()) > due:
                write_summary(self.directory)
                due = time.monotonic() + max(
                    _SECONDS_BETWEEN_SUMMARIES, (time.monotonic() - started) / _SHARE_OF_SUMMARIES
                )
        if stopped:
            raise Interrupted(stopped[0])

    @abc.abstractmethod
    def _outcomes(self, jobs: Iterator[list[str]], num_jobs: int) -> Iterator[JobRecord]:
        """Carry out the jobs with these overrides and yield how each ended, as they end.

        After one that was interrupted no other is begun. `num_jobs`: no more than that are there to run at a time.
        """

    @property
    def num_at_once(self) -> int | None:
        """How many jobs run at a time, None if that is left to a cluster."""
        return 1

    @property
    def directory(self) -> SweepDirectory:
        return self.job.job.directory

    @property
    def device(self) -> str:
        """`training.device`, as far as it is the same for all jobs."""
        return str(OmegaConf.select(self.job.master_config, "training.device"))

    def job_with_threads(self, num_threads: int) -> ComposedJob:
        """Return the job such that it takes so many threads if its config leaves that open."""
        return replace(self.job, job=replace(self.job.job, num_threads=num_threads))


def completed(directory: SweepDirectory, run_id: str) -> JobRecord | None:
    """Return the record of a job if it is complete and its run is still there."""
    if directory.run(run_id).read_status().get("status") == "completed":
        record = read_object(directory.record(run_id))
        return record if record.get("status") == "completed" else None
    return None


def _differing_keys(jobs: Sequence[Sequence[str]]) -> set[str]:
    """Return the keys of the overrides that some jobs have and others do not."""
    everywhere = set(jobs[0]).intersection(*jobs) if jobs else set()
    return {line.split("=")[0] for overrides in jobs for line in overrides if line not in everywhere}


def _returned(outcome: JobRecord) -> JobReturn:
    returned = JobReturn(overrides=outcome["overrides"], status=JobStatus.COMPLETED)
    returned.return_value = outcome
    return returned
