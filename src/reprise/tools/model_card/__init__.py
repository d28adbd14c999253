"""A run directory in, a card out: Markdown with metadata for the Hugging Face Hub; can always be regenerated.

A card states only what the files of the run hold. The same files give the same bytes, whenever and wherever.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.files.atomic_file import write_text
from reprise.files.json_file import read_object
from reprise.files.json_values import mapping_at, numbers
from reprise.runs.metrics_log import MetricEntry, last_metrics, read_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.text.markdown import escape
from reprise.text.numbers import count
from reprise.tools.model_card.cautions import cautions
from reprise.tools.model_card.evaluation import evaluation_results, short_headline
from reprise.tools.model_card.facts import ChecklistLine, Facts
from reprise.tools.model_card.front_matter import front_matter
from reprise.tools.model_card.reproduction import how_to_use, reproducibility
from reprise.tools.model_card.sections import (
    ethical_considerations,
    intended_use,
    limitations,
    model_details,
    training_configuration,
    training_data,
)

__all__ = ["generate_model_card", "write_model_card"]

_SECTIONS = {
    "Model Details": model_details,
    "Intended Use": intended_use,
    "Training Data": training_data,
    "Training Configuration": training_configuration,
    "Evaluation Results": evaluation_results,
    "Limitations": limitations,
    "Ethical Considerations": ethical_considerations,
    "How to Use": how_to_use,
    "Reproducibility": reproducibility,
}


def generate_model_card(
    config: ExperimentConfig | Mapping[str, Any],
    metrics: Mapping[str, float],
    output_path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    history: Sequence[MetricEntry] = (),
    checklist: Sequence[ChecklistLine] = (),
    plots: Sequence[str] = (),
) -> Path:
    """Write the card of a model to `output_path` and return the path; facts not given are "not recorded" in it.

    `metrics`: flat names such as `test/accuracy` to numbers. The others are what `provenance.json`,
    `results/metrics.json`, `status.json` and `logs/metrics.jsonl` hold, what `reprise.tools.checklist` found, and the
    paths of plots relative to the card, called as those in `results`.
    """
    values = config.to_dict() if isinstance(config, ExperimentConfig) else config
    facts = Facts(values, numbers(metrics), provenance or {}, results or {}, status or {}, history, checklist, plots)
    path = Path(output_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _card(facts))
    return path


def write_model_card(run: RunDirectory, checklist: Sequence[ChecklistLine] = ()) -> Path:
    """Write `model_card.md` of a run from its other files and return its path.

    `checklist`: of this run, from `reprise.tools.checklist`, which needs torch to read checkpoints; the card does not.

    Raises:
        InputError: if there is no config, or a file cannot be read.
    """
    write_text(run.model_card, model_card_text(run, checklist))
    return run.model_card


def model_card_text(run: RunDirectory, checklist: Sequence[ChecklistLine] = (), repository: str | None = None) -> str:
    """Return what `write_model_card` writes.

    `repository`: on the Hugging Face Hub, from where the model is loaded by whom reads the card there.
    """
    config = read_object(run.config)
    if not config:
        raise InputError(f"{run.path} is not the directory of a run: it has no {run.config.name}")
    results = read_object(run.metrics)
    facts = Facts(
        {**config, "run_id": config.get("run_id") or run.run_id},
        numbers(mapping_at(results, "metrics")),
        read_object(run.provenance),
        results,
        read_object(run.status),
        _history(run.metrics_log),
        checklist,
        [path.relative_to(run.path).as_posix() for path in run.plots],
        repository,
    )
    return _card(facts)


def _history(log: Path) -> list[MetricEntry]:
    """Return what a card tells of: the evaluations, and the last line."""
    evaluations, last = list(read_metrics(log, "val/")), last_metrics(log)
    return evaluations if last is None or last in evaluations[-1:] else [*evaluations, last]


def _card(facts: Facts) -> str:
    title = f"{facts.model_name} on {facts.data_name}" if facts.data_name else facts.model_name
    blocks = [front_matter(facts), f"# {escape(title)}", _summary(facts)]
    for heading, section in _SECTIONS.items():
        blocks += [f"## {heading}", section(facts)]
    return "\n\n".join(blocks) + "\n"


def _summary(facts: Facts) -> str:
    missing, found = facts.missing_keys, cautions(facts)
    keys = ", ".join(f"`card.{key}`" for key in missing)
    things, verb = count(len(missing), "thing"), "is" if len(missing) == 1 else "are"
    headline = short_headline(facts)
    lines = [f"{things} in this card {verb} still to be written: {keys}."]
    if not missing:
        lines = ["Nothing in this card is still to be written."]
    if headline:
        lines.append(f"{headline}.")
    if found:
        lines.append(f"{count(len(found), 'caution')} found in the facts: see [Limitations](#limitations).")
    lines.append(
        "*Measured* means computed by the run, *declared* means as its config or its data set says, and *not recorded* "
        "that there was no such fact in the files of the run."
    )
    return "\n\n".join(lines)
