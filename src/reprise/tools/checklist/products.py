"""The checks of what a run wrote: each takes the files and returns the evidence, or raises what is wrong."""

import json
import math
from collections.abc import Mapping

from reprise.config import ExperimentConfig
from reprise.errors import CheckFailed, InputError
from reprise.files.content_hash import content_hash
from reprise.files.json_values import as_number, at
from reprise.runs.exported_state import read_extra_state
from reprise.runs.metrics_log import read_metrics
from reprise.runs.run_length import steps_of_epoch
from reprise.tools.checklist.files import RunFiles, named
from reprise.training.cadence import Cadence, is_every

_METRICS_LOG = "reprise.runs.persisters.metrics_writer.MetricsLog"


def check_checkpoints(files: RunFiles) -> str:
    best, last = files.best, files.last
    training = files.config.training
    monitor, choose = training.monitor, min if training.monitor_mode == "min" else max
    last_line = files.last_line
    evaluations = [
        entry
        for entry in read_metrics(files.run.metrics_log, monitor)
        if monitor in entry.metrics and entry.step > last.chosen_from
    ]
    if not evaluations:
        raise CheckFailed(f"`metrics.jsonl` holds no `{monitor}` to choose the best by.")
    chosen = choose(evaluations, key=lambda entry: entry.metrics[monitor])  # of equals, the first
    value = chosen.metrics[monitor]
    if (best.epoch, best.step) != (chosen.epoch, chosen.step):
        raise CheckFailed(
            f"`best.pt` is of step {best.step}, but `{monitor}` was best at step {chosen.step}, by `metrics.jsonl`."
        )
    for checkpoint in (best, last):
        found = {key: checkpoint.best.get(key) for key in ("value", "epoch", "step")}
        is_of_monitor = checkpoint is last or at(checkpoint.config, "training", "monitor") == monitor
        if is_of_monitor and found != {"value": value, "epoch": chosen.epoch, "step": chosen.step}:
            raise CheckFailed(f"`{checkpoint.name}` has another best evaluation than `metrics.jsonl`.")
    after = f" after step {last.chosen_from}" if last.chosen_from else ""
    if last.step < last_line.step:
        raise CheckFailed(f"`last.pt` is of step {last.step}, but there are metrics of step {last_line.step}.")
    return (
        f"Both are whole by their checksums; `best.pt` is of step {best.step}, where `{monitor}` was "
        f"{training.monitor_mode}imal ({value:.4g}){after}, `last.pt` of step {last.step}."
    )


def check_metrics(files: RunFiles) -> str:
    training, log_every_steps = files.config.training, _log_every_steps(files.config)
    per_epoch = steps_of_epoch(training, files.num_samples("train"))
    end = max(files.whole[0].step, files.last_line.step)
    cadence = Cadence(per_epoch, end, training.eval_every_steps, files.whole[0].origin)
    # What was due before the last change of the config, the present config does not tell.
    since = int(
        max(
            (as_number(attempt.get("from_step")) or 0 for attempt in files.attempts if attempt.get("changes")),
            default=0,
        )
    )

    def check_missing(first: int, last: int, metrics: Mapping[str, float]) -> None:
        """Check that no line was due at these steps but the last one, whose line has `metrics`."""
        for step in range(max(first, since + 1), last + 1):
            has_line = step == last and bool(metrics)
            if (step == end or cadence.evaluates(step)) and not (has_line and training.monitor in metrics):
                raise CheckFailed(f"In `metrics.jsonl` the evaluation at step {step} is missing.")
            if is_every(log_every_steps, step) and not has_line:
                raise CheckFailed(f"In `metrics.jsonl` the line of step {step} is missing.")

    num_lines, step = 0, 0
    for num_lines, entry in enumerate(read_metrics(files.run.metrics_log), 1):
        if num_lines > 1 and entry.step <= step:
            raise CheckFailed(f"In `metrics.jsonl` step {entry.step} comes after step {step}.")
        wrong = [name for name, value in entry.metrics.items() if not math.isfinite(value)]
        if wrong:
            raise CheckFailed(f"At step {entry.step}, {named(wrong)} is not finite.")
        if entry.step > since and entry.epoch != cadence.epoch_of(entry.step):
            raise CheckFailed(
                f"Step {entry.step} is called one of epoch {entry.epoch}; an epoch has {per_epoch} steps."
            )
        check_missing(step + 1, entry.step, entry.metrics)
        step = entry.step
    check_missing(step + 1, end, {})
    return f"{num_lines} lines up to step {end}: steps ascend, none that was due is missing, all numbers are finite."


def check_results(files: RunFiles) -> str:
    results, best = files.results, files.best
    if not results:
        raise CheckFailed("There is no `results/metrics.json`.")
    if results.get("weights_sha256") != best.weights_sha256:
        raise CheckFailed("The weights that `results/metrics.json` is about are not those of `best.pt`.")
    facts = {"epoch": best.epoch, "step": best.step, "validation_metrics": dict(best.metrics)}
    for key, value in facts.items():
        if results.get(key) != value:
            raise CheckFailed(f"`{key}` in `results/metrics.json` is not that of `best.pt`.")
    monitor, stated = files.config.training.monitor, results.get("monitor")
    if (at(stated, "metric"), at(stated, "value")) != (monitor, best.metrics.get(monitor)):
        raise CheckFailed(f"`monitor` in `results/metrics.json` is not `{monitor}` as it was at `best.pt`.")
    try:
        predictions = json.loads(files.run.predictions.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        predictions = None
    if not isinstance(predictions, list):
        raise CheckFailed("`results/predictions.json` is missing or damaged.")
    exported = _exported_entries(files)
    # By content, since `transformers` exports under names of its own and leaves tied tensors out.
    differing = len(exported ^ best.entries)
    if differing:
        raise CheckFailed(
            f"The weights in `export` are not those of `best.pt`: {differing} entries are only in one of them."
        )
    return (
        f"`results/metrics.json` and `export` have the weights of `best.pt` (epoch {best.epoch}, step {best.step}), by "
        f"their hashes; {len(predictions):,} predictions."
    )


def _exported_entries(files: RunFiles) -> frozenset[str]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = sorted(files.run.export.glob("*.safetensors"))
    if not paths:
        raise CheckFailed("There are no weights in `export`.")
    try:
        tensors = [tensor for path in paths for tensor in load_file(path).values()]
        return frozenset(map(content_hash, [*tensors, *read_extra_state(files.run.export).values()]))
    except (OSError, SafetensorError, InputError):
        raise CheckFailed("The weights in `export` are damaged.") from None


def _log_every_steps(config: ExperimentConfig) -> int | None:
    for spec in config.callbacks.values():
        if spec is not None and spec.get("_target_") == _METRICS_LOG:
            every = spec.get("every_steps", 10)
            if every is not None and (type(every) is not int or every < 1):
                raise CheckFailed("`callbacks.metrics_log.every_steps` in `config.json` is no number of steps.")
            return every
    return None
