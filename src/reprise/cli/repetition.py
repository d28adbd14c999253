"""Trains a recorded run again: a script of its own, which `reproduce` starts with the code of any commit on its path.

`python -P repetition.py SOURCE CONFIG OUTPUT STEPS [PACKAGE …]`: with the code in SOURCE and the config in CONFIG,
for STEPS optimizer steps or `all`, into OUTPUT; parts may also come from the packages named. Of `reprise` it takes
little, and only what has been there since a run could first be trained, so that it fits old code as well.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn


def _refuse(message: str) -> NoReturn:
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)


def _find(name: str, *modules: str) -> Any:
    """Return what has this name in the first of these modules that has it."""
    for module in modules:
        with suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    _refuse(f"the recorded code is from before runs could be repeated: no {modules[-1]}.{name}; --current-code may do")


try:
    import reprise
    from reprise.callbacks import Callback, Run
    from reprise.config import ExperimentConfig
except ImportError as import_error:
    _refuse(f"the recorded code is from before runs could be repeated: {import_error}; --current-code may do")

# Where each stands now, and where it stood in version 0.1.
run_command = _find("run_command", "reprise.cli.command_line", "reprise.command_line")
Composed = _find("Composed", "reprise.config.composed", "reprise.config.composing")
train = _find("train", "reprise.runs.train", "reprise.train")


class StopAfter(Callback):
    """Interrupts training after `steps` optimizer steps; the config, and with it every schedule, is left alone."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step_end(self, run: Run) -> None:
        if run.loop.step >= self._steps:
            run.loop.interrupt("the comparison, which needs no more")


class EndWherePruned(Callback):
    """Ends training at the step at which a search ended the recorded run, which it did because of other runs."""

    def __init__(self, step: int, reason: str) -> None:
        self._step, self._reason = step, reason

    def on_eval_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        if run.loop.step == self._step:
            run.loop.stop(self._reason)


def main() -> None:
    source, config_path, output, steps, *trusted_packages = sys.argv[1:]
    if Path(reprise.__file__ or "").resolve().parents[1] != Path(source).resolve():
        _refuse(f"expected to run the code in {source}, but Python finds that in {reprise.__file__}")
    config = ExperimentConfig.load(config_path)
    callbacks = dict(config.callbacks)
    if steps != "all":
        callbacks["stop_after"] = {"_target_": f"{__name__}.StopAfter", "steps": int(steps)}
    status = json.loads(Path(config_path).with_name("status.json").read_text(encoding="utf-8"))
    if status["status"] == "completed" and status["reason"].startswith("pruned "):
        end = {"step": status["attempts"][-1]["to_step"], "reason": status["reason"]}
        callbacks["end_where_pruned"] = {"_target_": f"{__name__}.EndWherePruned", **end}
    repeated = replace(
        config,
        run_id="repeat",
        output_dir=output,
        callbacks=callbacks,
        tracker={},  # they move no bits, and a recorded run is not to be joined by another under its name
        trusted_packages=[*trusted_packages, __name__],
    )
    train(Composed(repeated, (), {}))


if __name__ == "__main__":
    run_command(main)
