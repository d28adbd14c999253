"""A sweep, and what of it is spent outside of its jobs.

`reprise`: what `scripts/train.py` does. `hydra`: `@hydra.main` with the same config and a job that does nothing.
Reported are the CPU seconds of the whole process outside of the jobs, and the least that composing the config of one
job takes with Hydra alone.

python timed_sweep.py REPORT reprise|hydra OVERRIDES…
"""

import json
import statistics
import sys
import time
from pathlib import Path

from workloads.marks import state_of_process

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

report, how, *overrides = sys.argv[1:]
sys.argv[1:] = overrides
inside = [0.0]


def train_timed(composed):  # type: ignore[no-untyped-def]
    from reprise.runs.train import train

    began = state_of_process()["cpu"]
    train(composed)
    inside.append(state_of_process()["cpu"] - began)


def compose_seconds() -> float:
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    from reprise.cli.composing import initialized

    GlobalHydra.instance().clear()
    lines = [line for line in overrides if not line.startswith("-") and not line.startswith("seed=")]
    seconds = []
    with initialized(CONFIGS):
        for seed in range(10):
            began = time.process_time()
            compose("train", overrides=[*lines, f"seed={seed}"], return_hydra_config=True)
            seconds.append(time.process_time() - began)
    return min(seconds)


try:
    if how == "reprise":
        from reprise.cli.hydra_command import run_hydra

        run_hydra(train_timed, CONFIGS)
    else:
        import hydra

        from reprise.cli.config_files import make_findable

        make_findable()
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")(lambda config: None)()
finally:
    facts = {"outside": state_of_process()["cpu"] - sum(inside), "job": statistics.median(inside)}
    Path(report).write_text(json.dumps(facts | {"compose": compose_seconds()}))
