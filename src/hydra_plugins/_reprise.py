"""The sweeper and the launchers of Reprise, as Hydra calls them; `reprise.sweep` has what they do.

Hydra imports every module of this package at each start, but for those whose names begin with an underscore; a sweep
registers what is here.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from reprise.config import InputError
from reprise.sweep.job import Outcome
from reprise.sweep.launching import SweepLauncher
from reprise.sweep.processes import num_cores, outcomes, threads_each, visible_gpus


def register() -> None:
    """Make what is here known to Hydra."""
    for plugin in (GridSweeper, InProcessLauncher, JoblibLauncher):
        Plugins.instance().register(plugin)


class GridSweeper(Sweeper):
    """Every combination of the values given. Unlike Hydra's own it leaves it to the jobs to compose their configs."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self._params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._parser = OverridesParser.create(hydra_context.config_loader)
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        values: dict[str, list[str]] = {}
        for override in self._parser.parse_overrides([f"{k}={v}" for k, v in self._params.items()] + arguments):
            key = override.get_key_element()
            if not override.is_sweep_override():
                values[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise InputError(
                    f"{override.input_line}: a grid needs values, {key}=1,2,3; only a search takes a range"
                )
        return [self._launcher.launch([list(job) for job in itertools.product(*values.values())], 0)]


class InProcessLauncher(SweepLauncher):
    """One job after another in this process."""

    def _outcomes(self, jobs: Sequence[list[str]], num_jobs: int) -> Iterator[Outcome]:
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

    def _outcomes(self, jobs: Sequence[list[str]], num_jobs: int) -> Iterator[Outcome]:
        from reprise.sweep.loky_workers import LokyWorkers

        gpus = visible_gpus(self.device)
        num_slots = min(self._num_at_once or len(gpus) or num_cores(), num_jobs)
        workers = LokyWorkers(self.job_with_threads(threads_each(num_slots)), gpus)
        try:
            yield from outcomes(workers, self.job.job, jobs, num_slots)
        finally:
            workers.close()
