"""Callbacks: what observes a run, and what persists it; one file each.

A callback is a class with any of the event methods below. Events come in the order in which they stand here.
Observers act on all but `on_commit`, persisters on `on_commit`, when the state is consistent; so the order in which
callbacks are listed never changes a bit of the result. What a callback remembers goes through `state_dict`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:  # a process that sends a run to a server has no use for torch
    import torch
    from torch import Tensor, nn

    from reprise.data import Data

Outcome = Literal["completed", "interrupted", "failed", "refused"]


class RunPaths(Protocol):
    """Where the files of a run lie; `reprise.runs.run_directory.RunDirectory` knows the others too."""

    @property
    def path(self) -> Path: ...
    @property
    def run_id(self) -> str: ...
    @property
    def metrics_log(self) -> Path: ...
    @property
    def profile(self) -> Path: ...
    @property
    def tensorboard(self) -> Path: ...
    @property
    def wandb(self) -> Path: ...
    @property
    def mlflow(self) -> Path: ...
    @property
    def model_card(self) -> Path: ...


class RunProcesses(Protocol):
    """The processes that share a run; only the first one writes."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def is_first(self) -> bool: ...


class StopState(Protocol):
    """How signals stop an attempt."""

    @property
    def stops_at_once(self) -> bool:
        """Whether there was a signal while the step was finished and saved for another one."""


class BestEvaluation(Protocol):
    """The evaluation with the best value of the monitored metric so far."""

    @property
    def value(self) -> float: ...
    @property
    def epoch(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def metric(self) -> str: ...


class TrainingSchedule(Protocol):
    """What is due at a step."""

    @property
    def origin(self) -> int:
        """The step from which epochs are counted; not 0 where an earlier attempt made steps of another size."""

    def epoch_of(self, step: int) -> int: ...
    def ends_epoch(self, step: int) -> bool: ...


class TrainingLoop(Protocol):
    """Where training stands, and how to log to it and to end it; documented in `reprise.training.loop`."""

    @property
    def model(self) -> "nn.Module": ...
    @property
    def optimizer(self) -> Any: ...
    @property
    def scheduler(self) -> Any: ...
    @property
    def cadence(self) -> TrainingSchedule: ...
    @property
    def step(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def loss(self) -> "Tensor | None": ...
    @property
    def gradient_norm(self) -> "Tensor | None": ...
    @property
    def monitor(self) -> str: ...
    @property
    def best(self) -> BestEvaluation | None: ...
    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def evaluated_step(self) -> int: ...
    @property
    def evaluation_is_due(self) -> bool: ...
    @property
    def finished(self) -> bool: ...
    @property
    def interruption(self) -> str | None: ...
    @property
    def scales_loss(self) -> bool: ...
    @property
    def logged(self) -> "Mapping[str, float | Tensor]": ...
    def log(self, metrics: "Mapping[str, float | Tensor]") -> None: ...
    def stop(self, reason: str) -> None: ...
    def interrupt(self, reason: str) -> None: ...
    def check_finite(self, weights: bool = False) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...


class StartedRun(Protocol):
    """What is known of a run from its start on."""

    @property
    def directory(self) -> RunPaths: ...
    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved config as plain values, for those who record it: without credentials."""

    @property
    def seed(self) -> int: ...
    @property
    def record(self) -> Mapping[str, str]:
        """Hydra's record of the overrides: texts of the files of `.hydra`, by file name."""

    @property
    def callbacks(self) -> Mapping[str, "Callback"]: ...
    @property
    def processes(self) -> RunProcesses: ...
    @property
    def stoppable(self) -> StopState: ...
    @property
    def results(self) -> Mapping[str, Any] | None:
        """Content of `results/metrics.json`, once the best checkpoint was scored on the test split."""


class Run(StartedRun, Protocol):
    """What a callback can look at from the start of training on."""

    @property
    def data(self) -> "Data": ...
    @property
    def model(self) -> "nn.Module": ...
    @property
    def device(self) -> "torch.device": ...
    @property
    def loop(self) -> TrainingLoop: ...


class Callback:
    """Does nothing on every event; override what you need. Methods that are not overridden are never called."""

    on_every_process: ClassVar[bool] = False
    """Where several processes share a run, callbacks live in the first one, where they may write. One that affects
    training (other than by `loop.stop`), or reads the weights of a model of which each process has a part, must act in
    all processes alike, and write only where `run.processes.is_first`."""

    def on_run_start(self, run: StartedRun) -> None:
        """The run directory exists and is locked. There is no data and no model yet."""

    def on_restored(self, run: Run) -> None:
        """All is built, and what was saved is restored: files of your own may change, such as be cut off, from here on.

        Until then a run that is resumed may still be refused, and stays as it is.
        """

    def on_train_start(self, run: Run) -> None:
        """All is built and restored, and the first step of this attempt follows; `run.loop.step` are done already.

        Called for every attempt: of a new run and of a resumed one, also if it was resumed mid-epoch.
        """

    def on_epoch_start(self, run: Run) -> None:
        """An epoch begins. A run that is resumed mid-epoch begins none."""

    def on_step_end(self, run: Run) -> None:
        """`run.loop.step` optimizer steps are done."""

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        """The validation split was scored; `run.loop.best` is up to date."""

    def on_epoch_end(self, run: Run) -> None:
        """All of an epoch is done, its evaluation too."""

    def on_commit(self, run: Run) -> None:
        """Everything that belongs to this step is done and the state is consistent: persist it now.

        Once more for the last step of a run that ends between two evaluations: before the one at its end, and after.
        """

    def on_save(self, run: Run) -> None:
        """A checkpoint of this step is about to be saved, and `state_dict` is called next: write what it refers to."""

    def on_results(self, run: Run) -> None:
        """The run is complete but for its card: what `run.results` holds, predictions and export are written."""

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        """The run ends; also when it failed or was interrupted, perhaps before training started.

        A run that was to be resumed, and could not be, is `refused`: write nothing.
        """

    def on_close(self, run: StartedRun, outcome: Outcome) -> None:
        """All files of the run are written: let go of what is held. Called last, in the reverse of the order listed."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart, as tensors and plain values; change nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
