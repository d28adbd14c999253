"""The sweeper and the launchers of Reprise, as Hydra calls them; `reprise.cli.sweep` has what they do.

Hydra imports every module of this package at each start, but for those whose names begin with an underscore; a sweep
registers what is here.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from reprise.cli.overrides import parse
from reprise.cli.sweep.launcher import SweepLauncher, completed
from reprise.cli.sweep.worker_processes import imported, num_slots, outcomes, threads_each, visible_gpus
from reprise.errors import InputError
from reprise.tools.sweep.job_record import JobRecord

_NOT_OF_SLURM_ALONE = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")
"""What submitit calls the same for all that it can submit to."""


def register() -> None:
    """Make what is here known to Hydra."""
    for plugin in (GridSweeper, OptunaSweeper, InProcessLauncher, JoblibLauncher, SubmititLauncher, RayLauncher):
        Plugins.instance().register(plugin)


class GridSweeper(Sweeper):
    """Every combination of the values given. Unlike Hydra's own it leaves it to the jobs to compose their configs."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self._params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        values: dict[str, list[str]] = {}
        for override in parse([f"{k}={v}" for k, v in self._params.items()] + arguments):
            key = override.get_key_element()
            if not override.is_sweep_override():
                values[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise InputError(
                    f"{override.input_line}: a grid needs values, {key}=1,2,3; a search takes a range, "
                    "hydra/sweeper=optuna"
                )
        return [self._launcher.launch([list(job) for job in itertools.product(*values.values())], 0)]


class OptunaSweeper(Sweeper):
    """Asks Optuna for trials, as many at a time as the launcher runs jobs, and tells it how each ended."""

    def __init__(
        self, n_trials: int, metrics: Any, sampler: Any, seed: int, params: Mapping[str, Any] | None = None
    ) -> None:
        self._num_trials, self._metrics, self._sampler, self._seed = n_trials, metrics, sampler, seed
        self._params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        imported("optuna", "search", "hydra/sweeper")
        self._config = config
        launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        if not isinstance(launcher, SweepLauncher):
            raise InputError("hydra/launcher: a search takes one of those in src/reprise/configs/hydra/launcher")
        self._launcher = launcher

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from reprise.tools.sweep.search import Search, metrics_of, search_space

        if not isinstance(self._num_trials, int) or self._num_trials < 1:
            raise InputError(f"hydra.sweeper.n_trials: expected an integer ≥ 1, got {self._num_trials!r}")
        launcher, num_at_once = self._launcher, self._launcher.num_at_once
        if num_at_once is None:
            raise InputError("hydra.launcher.n_jobs: a search needs the number of trials at a time")
        fixed, space = search_space(parse([f"{k}={v}" for k, v in self._params.items()] + arguments))
        metrics = metrics_of(self._metrics, self._config)
        sampler: Any = OmegaConf.to_container(self._sampler)
        search = Search(launcher.directory, fixed, space, metrics, sampler, self._seed)
        launcher.check(search.overrides())

        def jobs() -> Iterator[list[str]]:
            for run_id, overrides in search.trials(self._num_trials):
                if (found := completed(launcher.directory, run_id)) is not None:
                    search.tell(found)
                else:
                    yield overrides

        for outcome in launcher.carry_out(
            jobs(), space, num_jobs=self._num_trials, num_done=search.num_told, num_at_once=num_at_once
        ):
            search.tell(outcome)
        return []


class InProcessLauncher(SweepLauncher):
    """One job after another in this process."""

    def _outcomes(self, jobs: Iterator[list[str]], num_jobs: int) -> Iterator[JobRecord]:
        for overrides in jobs:
            outcome = self.job(overrides)
            yield outcome
            if outcome["status"] == "interrupted":
                return


class JoblibLauncher(SweepLauncher):
    """Jobs in processes of this machine, which share its cores, and have a GPU each.

    `n_jobs`: jobs at a time; null: one for each GPU where there are any, otherwise one for each core.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self._num_at_once = n_jobs

    @property
    def num_at_once(self) -> int:
        return num_slots(self._num_at_once, visible_gpus(self.device))

    def _outcomes(self, jobs: Iterator[list[str]], num_jobs: int) -> Iterator[JobRecord]:
        from reprise.cli.sweep.loky_workers import LokyWorkers

        gpus = visible_gpus(self.device)
        num = min(num_slots(self._num_at_once, gpus), num_jobs)
        workers = LokyWorkers(self.job_with_threads(threads_each(num)), gpus)
        try:
            yield from outcomes(workers, self.directory, jobs, num)
        finally:
            workers.close()


class SubmititLauncher(SweepLauncher):
    """Jobs through submitit: into the queue of a Slurm cluster, or as processes of this machine.

    `cluster`: slurm or local. `n_jobs`: jobs at a time. `max_num_timeout`: how often a job may run into its time limit
    and be queued again. `parameters`: of submitit; those that are null are left out.
    """

    def __init__(self, cluster: str, n_jobs: int | None = None, max_num_timeout: int = 100, **parameters: Any) -> None:
        self._cluster, self._num_at_once, self._max_num_timeout = cluster, n_jobs, max_num_timeout
        self._parameters = {key: value for key, value in parameters.items() if value is not None}

    @property
    def num_at_once(self) -> int | None:
        if self._cluster != "local":
            return self._num_at_once
        return num_slots(self._num_at_once, visible_gpus(self.device))

    def _outcomes(self, jobs: Iterator[list[str]], num_jobs: int) -> Iterator[JobRecord]:
        submitit = imported("submitit", "slurm", "hydra/launcher")
        from reprise.cli.sweep.submitit_jobs import LocalJobs, SlurmJobs

        folder = self.directory.submitit / "%j"
        if self._cluster == "local":
            executor = submitit.LocalExecutor(folder, max_num_timeout=self._max_num_timeout)
            gpus = visible_gpus(self.device)
            num = min(num_slots(self._num_at_once, gpus), num_jobs)
            local = LocalJobs(self.job_with_threads(threads_each(num)), executor, self._parameters, gpus)
            yield from outcomes(local, self.directory, jobs, num)
        else:
            executor = submitit.AutoExecutor(folder, "slurm", slurm_max_num_timeout=self._max_num_timeout)
            parameters = {k if k in _NOT_OF_SLURM_ALONE else f"slurm_{k}": v for k, v in self._parameters.items()}
            parameters["name"] = self.directory.sweep_id
            job = self.job_with_threads(parameters["cpus_per_task"])
            yield from outcomes(SlurmJobs(job, executor, parameters, self._num_at_once), self.directory, jobs, num_jobs)


class RayLauncher(SweepLauncher):
    """Jobs as tasks of Ray.

    `address`: of a cluster whose machines see the same files; null: one on this machine, for this sweep. `n_jobs`: jobs
    at a time on this machine. `cpus_per_task`, `gpus_per_task`: what a job takes; null: its fair share of this machine.
    """

    def __init__(
        self,
        address: str | None = None,
        n_jobs: int | None = None,
        cpus_per_task: int | None = None,
        gpus_per_task: int | None = None,
    ) -> None:
        self._address, self._num_at_once = address, n_jobs
        self._num_cpus, self._num_gpus = cpus_per_task, gpus_per_task

    @property
    def num_at_once(self) -> int | None:
        if self._address is not None:
            return self._num_at_once
        return num_slots(self._num_at_once, visible_gpus(self.device))

    def _outcomes(self, jobs: Iterator[list[str]], num_jobs: int) -> Iterator[JobRecord]:
        ray = imported("ray", "ray", "hydra/launcher")
        from reprise.cli.sweep.ray_jobs import RayJobs

        gpus = visible_gpus(self.device)
        num = min(num_slots(self._num_at_once, gpus), num_jobs)
        num_cpus = self._num_cpus or (threads_each(num) if self._address is None else 1)
        num_gpus = self._num_gpus if self._num_gpus is not None else min(1, len(gpus))
        size = {"num_cpus": num * num_cpus} if self._address is None else {}
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # jobs share cores
        ray.init(
            address=self._address or "local", include_dashboard=False, log_to_driver=False, logging_level=40, **size
        )
        try:
            yield from outcomes(
                RayJobs(self.job_with_threads(num_cpus), num_cpus, num_gpus), self.directory, jobs, num_jobs
            )
        finally:
            ray.shutdown()
