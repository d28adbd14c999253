"""The YAML at the top of a card, which the Hugging Face Hub reads; only plain values that it can use."""

import math
import re
from typing import Any

import yaml

from reprise.files.json_values import text_at
from reprise.text.markdown import one_line
from reprise.text.numbers import metric_title
from reprise.tools.model_card.facts import Facts
from reprise.tools.model_card.hub import LANGUAGES, LICENSES, TASKS

_HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([\w.-]+(?:/[\w.-]+)?)")
# Names of metrics on the Hub, where ours says how it is averaged.
_METRIC_TYPES = {"macro_f1": "f1", "macro_precision": "precision", "macro_recall": "recall"}


def front_matter(facts: Facts) -> str:
    """Return the block with both of its fences; it belongs on the first line of the card."""
    content = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{content}---"


def hub_license(identifier: str | None) -> str | None:
    """Return an identifier as the Hub spells it, None if it has none such."""
    spelled = (identifier or "").strip().lower()
    return spelled if spelled in LICENSES else None


def _metadata(facts: Facts) -> dict[str, Any]:
    language = (text_at(facts.provenance, "data", "language") or "").strip().lower()
    library = text_at(facts.provenance, "model", "library")
    dataset = _HUB_DATASET.match(text_at(facts.provenance, "data", "source") or "")
    metadata = {
        "language": [language] if language in LANGUAGES else None,
        "license": hub_license(facts.declared("license")),
        "library_name": library if library in ("transformers", "pytorch") else None,
        "pipeline_tag": facts.task if facts.task in TASKS else None,
        "tags": ["pytorch", "reprise"],
        "datasets": [dataset.group(1)] if dataset else None,
        "metrics": [metric["type"] for metric in _metrics(facts) if metric["type"] != "loss"] or None,
        "model-index": _model_index(facts, dataset.group(1) if dataset else None),
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _metrics(facts: Facts) -> list[dict[str, Any]]:
    return [
        {"type": one_line(_METRIC_TYPES.get(name, name)), "value": float(value), "name": one_line(metric_title(name))}
        for name, value in facts.scores.items()
        if math.isfinite(value)
    ]


def _model_index(facts: Facts, hub_dataset: str | None) -> list[dict[str, Any]] | None:
    metrics = _metrics(facts)
    task, data_name = one_line(facts.task or ""), one_line(facts.data_name or "")
    if not (task and data_name and metrics):
        return None  # the Hub requires all three
    slug = re.sub(r"[^a-z0-9]+", "-", data_name.lower()).strip("-") or "unnamed"
    dataset = {"type": hub_dataset or slug, "name": data_name}
    if facts.split:
        dataset["split"] = one_line(facts.split)
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    return [{"name": one_line(facts.experiment_name or facts.model_name), "results": [result]}]
