"""Seeds the global generators and chooses deterministic kernels, before there is any data or model."""

from reprise.callbacks import Callback, StartedRun
from reprise.randomness import Determinism, set_seed


class Seeding(Callback):
    """`deterministic`: true warns where an operation has no deterministic kernel, strict raises, false is fastest."""

    on_every_process = True

    def __init__(self, deterministic: Determinism = True) -> None:
        self._deterministic: Determinism = deterministic

    def on_run_start(self, run: StartedRun) -> None:
        set_seed(run.seed, self._deterministic)
