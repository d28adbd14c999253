"""A run directory in, a card out: Markdown with metadata for the Hugging Face Hub; can always be regenerated.

A card states only what the files of the run hold. The same files give the same bytes, whenever and wherever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.files.atomic_file import write_text
from reprise.files.json_file import read_object
from reprise.files.json_values import mapping_at, numbers, text_at
from reprise.runs.metrics_log import MetricEntry, last_metrics, read_metrics
from reprise.runs.run_directory import RunDirectory
from reprise.tools.model_card.facts import CardFacts
from reprise.tools.model_card.front_matter import front_matter

if TYPE_CHECKING:
    from reprise.tools.checklist import Check  # which imports torch

__all__ = ["generate_model_card", "write_model_card"]

_MOST_TEMPLATE_BYTES = 2**18


def generate_model_card(
    config: ExperimentConfig | Mapping[str, Any],
    metrics: Mapping[str, float],
    output_path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    history: Sequence[MetricEntry] = (),
    checklist: Sequence[Check] = (),
    plots: Sequence[str] = (),
) -> Path:
    """Write the card of a model to `output_path` and return the path; facts not given are "not recorded" in it.

    `metrics`: flat names such as `test/accuracy` to numbers. The others are what `provenance.json`,
    `results/metrics.json`, `status.json` and `logs/metrics.jsonl` hold, what `reprise.tools.checklist` found, and the
    paths of plots relative to the card, called as those in `results`.
    """
    values = config.to_dict() if isinstance(config, ExperimentConfig) else config
    facts = CardFacts(
        values, numbers(metrics), provenance or {}, results or {}, status or {}, history, checklist, plots
    )
    path = Path(output_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _card(facts))
    return path


def write_model_card(run: RunDirectory, checklist: Sequence[Check] = ()) -> Path:
    """Write `model_card.md` of a run from its other files and return its path.

    `checklist`: of this run, from `reprise.tools.checklist`, which needs torch to read checkpoints; the card does not.

    Raises:
        InputError: if there is no config, or a file cannot be read.
    """
    write_text(run.model_card, model_card_text(run, checklist))
    return run.model_card


def model_card_text(run: RunDirectory, checklist: Sequence[Check] = (), repository: str | None = None) -> str:
    """Return what `write_model_card` writes, from the template that the run keeps beside its card, if it has its own.

    `repository`: the one on the Hugging Face Hub that readers of the card load the model from.

    Raises:
        InputError: as `write_model_card`, or if the template is missing or cannot be rendered.
    """
    config = read_object(run.config)
    if not config:
        raise InputError(f"{run.path} is not the directory of a run: it has no {run.config.name}")
    results = read_object(run.metrics)
    facts = CardFacts(
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
    return _card(facts, _own_template(run, config), run.card_template.name)


def _own_template(run: RunDirectory, config: Mapping[str, Any]) -> str | None:
    """Return the text of the template that the run was started with, None if that is the engine's."""
    if run.card_template.exists():
        return read_template(run.card_template)
    for callback in mapping_at(config, "callbacks").values():
        if (text_at(callback, "_target_") or "").endswith(".ModelCard") and text_at(callback, "template"):
            raise InputError(f"{run.card_template} is missing: the template that the card was written from")
    return None


def read_template(path: Path) -> str:
    """Return the text of a template.

    Raises:
        InputError: if the file cannot be read as one.
    """
    try:
        if path.stat().st_size > _MOST_TEMPLATE_BYTES:
            raise InputError(f"{path}: expected a template of at most {_MOST_TEMPLATE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a template ({error})") from None


def _history(log: Path) -> list[MetricEntry]:
    """Return the evaluations and the last line."""
    evaluations, last = list(read_metrics(log, "val/")), last_metrics(log)
    return evaluations if last is None or last in evaluations[-1:] else [*evaluations, last]


def _card(facts: CardFacts, template: str | None = None, name: str = "") -> str:
    # Jinja is imported when a card is written.
    from reprise.tools.model_card.rendering import render

    return f"{front_matter(facts)}\n\n{render(facts, template, name).strip()}\n"
