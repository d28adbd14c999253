"""Carries out one job of a sweep, and has it recorded how it ended.

It works in whatever process a launcher puts it, and needs nothing from the process that started the sweep.
"""

import functools
import gc
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reprise.cli.composing import validated
from reprise.config.composed import Composed
from reprise.errors import Incomplete, InputError, Interrupted, RunInUse
from reprise.runs.run_directory import Status, find_run
from reprise.runs.sweep_directory import SweepDirectory
from reprise.tools.sweep.job_record import JobRecord, record_job, run_id_of
from reprise.training.signals import stopped_by_signals

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepJob:
    """A task function for Hydra that records how it ended instead of raising what went wrong."""

    task: Callable[[Composed], object]
    directory: SweepDirectory
    command: tuple[str, ...]
    """The arguments as typed; provenance records them."""
    num_threads: int | None = None
    """The share of a job that leaves `num_threads` open; null: what torch chooses."""

    def __call__(self, job: DictConfig) -> JobRecord:
        """Carry out the job that Hydra composed, for a launcher that is not one of ours."""
        overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        outcome = self.carry_out([str(line) for line in overrides], lambda: validated(job))
        if outcome["status"] == "interrupted":
            raise Interrupted(outcome["reason"])
        return outcome

    def carry_out(self, overrides: Sequence[str], compose: Callable[[], Composed]) -> JobRecord:
        """Carry out the job with these overrides, which `compose` makes a config of, and record how it ended."""
        typed = sys.argv
        sys.argv = list(self.command)
        run_id = run_id_of(self.directory.sweep_id, overrides)
        status: Status = "completed"
        reason = trace = None
        try:
            with stopped_by_signals():
                self._work_on(run_id, compose())
        except KeyboardInterrupt as stopped:
            status, reason = "interrupted", str(stopped)
        except InputError as error:
            status, reason = "failed", str(error)
        except Incomplete as error:  # its figures are those of any other run
            reason = str(error)
            logger.error(reason)
        except (Exception, SystemExit) as error:
            status, reason, trace = "failed", f"{type(error).__name__}: {error}", traceback.format_exc()
        finally:
            sys.argv = typed
        if status == "failed":
            _free_memory()
        return record_job(self.directory, run_id, overrides, status, reason, trace)

    def _work_on(self, run_id: str, composed: Composed) -> None:
        config = replace(composed.config, run_id=run_id, sweep_id=self.directory.sweep_id)
        if find_run(config.output_dir, config.experiment_name, run_id) != self.directory.run(run_id).path:
            raise InputError(
                f"experiment_name, output_dir: this job has others than the sweep in {self.directory.path}"
            )
        import torch

        # One job of a process may have set its own number.
        torch.set_num_threads(self.num_threads or _default_num_threads())
        is_waiting = False
        while True:
            try:
                self.task(replace(composed, config=config))
                return
            except RunInUse as error:  # an earlier command of this sweep was killed, and its job was not
                if not is_waiting:
                    logger.warning("%s; waiting until it is done", error)
                is_waiting = True
                time.sleep(1)


@functools.cache
def _default_num_threads() -> int:
    import torch

    return torch.get_num_threads()


def _free_memory() -> None:
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
