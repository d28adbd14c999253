"""Callbacks: what observes a run, and what persists it; one file each.

A callback is a class with any of the event methods below. Events come in the order in which they stand here.
Observers act on all but `on_commit`, persisters on `on_commit`, when the state is consistent; so the order in which
callbacks are listed never changes a bit of the result. What a callback remembers goes through `state_dict`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from reprise.training.processes import ALONE, Processes
from reprise.training.signals import Stoppable

if TYPE_CHECKING:  # a process that sends a run to a server has no use for torch
    import torch
    from torch import nn

    from reprise.data import Data
    from reprise.runs.run_directory import RunDirectory
    from reprise.training.loop import Loop

Outcome = Literal["completed", "interrupted", "failed"]


@dataclass
class Run:
    """What a callback can look at. Parts that are not built yet are not there yet: reading them is an error."""

    directory: "RunDirectory"
    config: Mapping[str, Any]
    """The resolved config as plain values, for those who record it: without credentials."""
    seed: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Facts about code, environment and hardware."""
    code_patch: bytes | None = None
    """What has to be applied to the recorded commit to get the code in use."""
    record: Mapping[str, str] = field(default_factory=dict)
    """Hydra's record of the overrides: texts of the files of `.hydra`, by file name."""
    callbacks: Mapping[str, "Callback"] = field(default_factory=dict)
    data: "Data" = field(init=False)
    model: "nn.Module" = field(init=False)
    device: "torch.device" = field(init=False)
    loop: "Loop" = field(init=False)
    stoppable: Stoppable = field(default_factory=Stoppable)
    """Whether and how signals stop this attempt."""
    results: Mapping[str, Any] | None = None
    """Content of `results/metrics.json`, once the best checkpoint was scored on the test split."""
    processes: Processes = ALONE
    """The processes that share the run; only the first one writes."""


class Callback:
    """Does nothing on every event; override what you need. Methods that are not overridden are never called."""

    on_every_process: ClassVar[bool] = False
    """Where several processes share a run, callbacks live in the first one, where they may write. One that changes how
    is trained (other than by `loop.stop`), or reads the weights of a model of which each process has a part, must act
    in all processes alike, and write only where `run.processes.is_first`."""

    def on_run_start(self, run: Run) -> None:
        """The run directory exists and is locked. There is no data and no model yet."""

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

    def on_results(self, run: Run) -> None:
        """The run is complete but for its card: what `run.results` holds, predictions and export are written."""

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        """The run ends; also when it failed or was interrupted, and then parts of `run` may be missing."""

    def on_close(self, run: Run, outcome: Outcome) -> None:
        """All files of the run are written: let go of what is held. Called last, in the reverse of the order listed."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class CallbackEvents:
    """Passes the loop's events on to the callbacks that override them."""

    def __init__(self, callbacks: Sequence[Callback], run: Run) -> None:
        def overriding(event: str) -> list[Any]:
            return [
                partial(getattr(callback, event), run)
                for callback in callbacks
                if getattr(type(callback), event) is not getattr(Callback, event)
            ]

        self._epoch_start = overriding("on_epoch_start")
        self._step_end = overriding("on_step_end")
        self._eval_end = overriding("on_eval_end")
        self._epoch_end = overriding("on_epoch_end")
        self._commit = overriding("on_commit")

    def epoch_start(self) -> None:
        for call in self._epoch_start:
            call()

    def step_end(self) -> None:
        for call in self._step_end:
            call()

    def eval_end(self, metrics: Mapping[str, float]) -> None:
        for call in self._eval_end:
            call(metrics)

    def epoch_end(self) -> None:
        for call in self._epoch_end:
            call()

    def commit(self) -> None:
        for call in self._commit:
            call()
