"""The YAML at the top of a card, which the Hugging Face Hub reads; only plain values that it knows."""

import math
import re

from reprise.files.json_values import text_at
from reprise.text.markdown import one_line
from reprise.text.numbers import metric_title
from reprise.tools.model_card.facts import CardFacts
from reprise.tools.model_card.hub import LANGUAGES, TASKS

_HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([\w.-]+(?:/[\w.-]+)?)")
# Names of metrics on the Hub, where ours says how it is averaged.
_METRIC_TYPES = {"macro_f1": "f1", "macro_precision": "precision", "macro_recall": "recall"}


def front_matter(facts: CardFacts) -> str:
    """Return the block with both of its fences; it belongs on the first line of the card."""
    from huggingface_hub import EvalResult, ModelCardData

    language = (text_at(facts.provenance, "data", "language") or "").strip().lower()
    library = text_at(facts.provenance, "model", "library")
    source = _HUB_DATASET.match(text_at(facts.provenance, "data", "source") or "")
    task, data_name = one_line(facts.task or ""), one_line(facts.data_name or "")
    values = {name: float(value) for name, value in facts.scores.values.items() if math.isfinite(value)}
    types = {name: one_line(_METRIC_TYPES.get(name, name)) for name in values}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=source.group(1) if source else _slug(data_name),
            dataset_name=data_name,
            dataset_split=one_line(facts.scores.split) if facts.scores.split else None,
            metric_type=types[name],
            metric_name=one_line(metric_title(name)),
            metric_value=value,
        )
        for name, value in values.items()
    ]
    data = ModelCardData(
        language=[language] if language in LANGUAGES else None,
        license=facts.hub_license,
        library_name=library if library in ("transformers", "pytorch") else None,
        pipeline_tag=facts.task if facts.task in TASKS else None,
        tags=["pytorch", "reprise"],
        datasets=[source.group(1)] if source else None,
        metrics=[kind for kind in types.values() if kind != "loss"] or None,
        model_name=one_line(facts.experiment_name or facts.model_name),
        eval_results=results if task and data_name and results else None,  # the Hub requires all three
    )
    if data.eval_results is None:
        data.model_name = None  # it names the model index alone
    return f"---\n{data.to_yaml()}\n---"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
