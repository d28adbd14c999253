"""Trains tiny runs that several processes share, and kills, signals or spoils one of them at a step.

The processes are forked and told what `torchrun` would tell them, so that they need not import torch again.
"""

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness import run_facts
from tiny_parts import NUM_FEATURES, NUM_LABELS, write_data
from torch import Tensor, nn
from traced_runs import config_of

import reprise.runs.train
from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.cli.command_line import run_command
from reprise.cli.resuming import resume
from reprise.config import ExperimentConfig
from reprise.config.composed import Composed
from reprise.metrics import ClassificationMetrics
from reprise.models import ModelOutput
from reprise.runs.provenance import collect_provenance
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.training.loop import Loop

_LIMIT = 120.0


class Layers(nn.Module):
    """Batch norm, dropout, layers in a list, and a parameter that is never used."""

    def __init__(self, dropout: float, hidden_size: int = 12, has_norm: bool = True, has_unused: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, hidden_size)
        self.norm = nn.BatchNorm1d(hidden_size) if has_norm else nn.Identity()
        self.layers = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden_size, NUM_LABELS)
        self.unused = nn.Parameter(torch.ones(3)) if has_unused else None

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> ModelOutput:
        hidden = self.norm(self.first(inputs))
        for layer in self.layers:
            hidden = torch.tanh(layer(self.dropout(hidden)))
        logits = self.last(hidden)
        return ModelOutput(logits, None if labels is None else nn.functional.cross_entropy(logits.float(), labels))


class LazyLayers(Layers):
    """The first layer takes its size from the first batch."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.first = nn.LazyLinear(self.first.out_features)


class Unnamed(ClassificationMetrics):
    """A metric that does not say what it keeps."""

    per_batch = ()


class StopsAt(Callback):
    """Ends training after a step; lives in the first process only."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, run: Run) -> None:
        if run.loop.step == self._step:
            run.loop.stop("enough")


class SignalsAtTheEnd(Callback):
    """Has torchrun's signal arrive while how the run ended is recorded."""

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class SpoilsAPart(Callback):
    """After a step, one process's part of a sharded weight is no number."""

    on_every_process = True

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, run: Run) -> None:
        if run.loop.step == self._step and run.processes.rank == 1:
            part = next(run.model.parameters()).to_local()  # type: ignore[operator]
            part.detach().fill_(float("nan"))


class Shared(NamedTuple):
    """How a run that was shared ended."""

    run: RunDirectory
    codes: list[int]
    said: str
    seconds: float

    @property
    def facts(self) -> dict[str, Any]:
        return run_facts(self.run.path)


class Event(NamedTuple):
    """What happens to one process at the beginning of a step."""

    rank: int
    step: int
    do: Callable[[Loop, list[dict[str, Tensor]]], object]


def killed(rank: int, step: int) -> Event:
    return Event(rank, step, lambda loop, _: os.kill(os.getpid(), signal.SIGKILL))


def signalled(rank: int, step: int) -> Event:
    return Event(rank, step, lambda loop, _: os.kill(os.getpid(), signal.SIGTERM))


def signalled_twice(rank: int, step: int) -> Event:
    def signal_twice(*_: object) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    return Event(rank, step, signal_twice)


def spoiled(rank: int, step: int) -> Event:
    return Event(rank, step, lambda loop, microbatches: microbatches[0]["inputs"].fill_(float("nan")))


def config(output: Path, **changes: Any) -> ExperimentConfig:
    """Return a config of 15 steps in 3 epochs, each with a last step of 6 samples instead of 16."""
    data = output / "points.json"
    output.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        write_data(data)
    defaults: dict[str, Any] = {
        "run_id": "run",
        "data__num_samples": 70,
        "model": {"_target_": "shared_runs.Layers", "name": "layers", "dropout": 0.1},
        "training__learning_rate": 0.01,
        "training__optimizer": {"_target_": "reprise.optimization.optimizers.AdamW"},
        "training__num_microbatches": 4,
        "training__checkpoint_every_steps": 4,
        "training__eval_every_steps": 3,
        "trusted_packages": ["tiny_parts", "shared_runs"],
    }
    checkpoints = {"_target_": "reprise.runs.persisters.checkpoints.Checkpoints", "every_steps": 4}
    made = config_of(output, data, **(defaults | changes))
    return ExperimentConfig.from_dict(
        made.to_dict() | {"callbacks": {**made.callbacks, "checkpoints": checkpoints} | changes.get("callbacks", {})}
    )


def share(
    num: int,
    config: ExperimentConfig,
    event: Event | None = None,
    prepare: Callable[[], None] | None = None,
    changes: tuple[str, ...] = (),
) -> Shared:
    """Train, or carry on, with `num` processes; return how they ended. `changes` are made with `resume`."""
    run = RunDirectory(Path(config.output_dir) / "experiments" / config.experiment_name / str(config.run_id))
    provenance = _provenance()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def work(rank: int, log: int) -> None:
        sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
        torch.set_num_threads(1)
        if num > 1:
            told = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": num,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            os.environ.update({name: str(value) for name, value in told.items()})
        reprise.runs.train.collect_provenance = lambda *_: provenance  # type: ignore[assignment]
        reprise.runs.train.code_patch = lambda: b"a patch"
        if event is not None and event.rank == rank:
            _have_happen(event)
        if prepare is not None:
            prepare()

        def command() -> None:
            if changes:
                print(resume(run.path, changes, config.trusted_packages))
            else:
                print(train(Composed(config, (), {})))

        run_command(command, is_shared=True)

    started = time.monotonic()
    with tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads; none is used here
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=work, args=(rank, log.fileno())) for rank in range(num)]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes) and time.monotonic() - started < _LIMIT:
            multiprocessing.connection.wait([p.sentinel for p in processes if p.is_alive()], timeout=1.0)
            if any(process.exitcode for process in processes):
                for process in processes:  # as torchrun does
                    process.terminate()
                break
        for process in processes:
            process.join(max(0.0, started + _LIMIT - time.monotonic()))
        seconds = time.monotonic() - started
        for process in processes:
            process.kill()
            process.join()
        log.seek(0)
        said = log.read().decode()
    return Shared(run, [process.exitcode or 0 for process in processes], said, seconds)


def _have_happen(event: Event) -> None:
    train_step = Loop._train_step

    def step(self: Loop, microbatches: list[dict[str, Tensor]]) -> None:
        if self.step == event.step:
            event.do(self, microbatches)
        train_step(self, microbatches)

    Loop._train_step = step  # type: ignore[method-assign]


@functools.cache
def _provenance() -> dict[str, Any]:
    import torch.distributed.fsdp  # each process has it already then

    return collect_provenance((), torch.device("cpu"))
