"""Makes many run directories out of one real run, to see what a thousand of them cost."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprise.runs.run_directory import RunDirectory, find_run

NUM_SEEDS = 5


def make_runs(run: str | Path, output_dir: str | Path, num_runs: int, experiment_name: str = "many") -> Path:
    """Write `num_runs` runs beside one another as the experiment of this name, and return its directory.

    Each has the JSON files, the logged metrics and the card of `run`, with a config and figures of its own: five seeds
    of each of so many variants, which differ in learning rate, depth and dropout. The same call writes the same bytes.
    Checkpoints, predictions and export are left out.
    """
    source = RunDirectory(run)
    config, status, results = (
        json.loads(path.read_text(encoding="utf-8")) for path in (source.config, source.status, source.metrics)
    )
    lines = [json.loads(line) for line in source.metrics_log.read_text(encoding="utf-8").splitlines()]
    for number in range(num_runs):
        target = RunDirectory(find_run(output_dir, experiment_name, f"run_{number:05d}"))
        target.logs.mkdir(parents=True)
        target.results.mkdir()
        variant, seed = divmod(number, NUM_SEEDS)
        draw = random.Random(number)
        factor = 1 + 0.1 * (variant % 7) + 0.05 * draw.random()
        write_json(
            target.config,
            config
            | {"experiment_name": experiment_name, "run_id": target.run_id, "seed": seed, "output_dir": str(output_dir)}
            | {"training": config["training"] | {"learning_rate": round(0.001 * (1 + variant % 20), 6)}}
            | {"model": config["model"] | {"num_layers": 1 + variant // 20 % 4, "dropout": variant // 80 / 100}},
        )
        write_json(target.status, status)
        write_json(target.metrics, results | {"metrics": scaled(results["metrics"], factor)})
        logged = (json.dumps(line | {"metrics": scaled(line["metrics"], factor)}) for line in lines)
        target.metrics_log.write_text("".join(f"{line}\n" for line in logged), encoding="utf-8")
        shutil.copyfile(source.model_card, target.model_card)
    return find_run(output_dir, experiment_name, "any").parent


def scaled(metrics: dict[str, float], factor: float) -> dict[str, float]:
    """Return losses times `factor`, and rates divided by it."""
    return {name: value * factor if name.endswith("loss") else value / factor for name, value in metrics.items()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def num_calls(work: Callable[[], object]) -> int:
    """Return how many functions are called and left while `work` is done: what does not depend on the machine."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return number
