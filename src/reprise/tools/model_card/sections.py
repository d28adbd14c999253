"""The sections on the model, its use, its training and its limits."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reprise.files.json_values import at, list_at, mapping_at, number_at, text_at
from reprise.text.markdown import bullets, code, escape, paragraphs, prose, table
from reprise.text.numbers import figure, percent
from reprise.tools.model_card.cautions import CHECKS, cautions
from reprise.tools.model_card.facts import Facts
from reprise.tools.model_card.front_matter import hub_license

NOT_RECORDED = "not recorded"
_MOST_LABELS = 50
# What other sections show, or what does not bear on the weights.
_LEFT_OUT = {"card", "callbacks", "tracker", "metrics", "experiment_name", "run_id", "output_dir", "trusted_packages"}


def model_details(facts: Facts) -> str:
    model = mapping_at(facts.provenance, "model")
    rows = [
        ["Name", code(facts.model_name), "declared"],
        ["Class", recorded_code(text_at(model, "class")), "measured"],
        ["Task", recorded_code(facts.task), "declared"],
        ["Parameters", _parameters(facts), "measured"],
        ["Input", _input_shapes(facts), "measured"],
        ["Output", _shape("logits", list_at(model, "logits_shape")) or NOT_RECORDED, "measured"],
        ["Weights, sha256", recorded_code(text_at(facts.results, "weights_sha256")), "measured"],
        ["Started", recorded(text_at(facts.provenance, "created")), "measured"],
        ["Authors", _declared_cell(facts, "authors"), "declared"],
        ["License", _license(facts), "declared"],
    ]
    rows = [[title, value, "" if value == NOT_RECORDED or "**" in value else basis] for title, value, basis in rows]
    return f"{declared(facts, 'description')}\n\n{table(['Fact', 'Value', 'Basis'], rows)}"


def intended_use(facts: Facts) -> str:
    return f"{declared(facts, 'intended_use')}\n\n### Out of scope\n\n{declared(facts, 'out_of_scope')}"


def training_data(facts: Facts) -> str:
    data = mapping_at(facts.provenance, "data")
    rows = [
        ["Name", recorded(facts.data_name)],
        ["Source", prose(text_at(data, "source") or NOT_RECORDED)],
        ["License", recorded(text_at(data, "license"))],
        ["Language", recorded(text_at(data, "language"))],
        ["Loaded by", recorded_code(text_at(facts.config, "data", "_target_"))],
        ["Path", recorded_code(text_at(facts.config, "data", "path"))],
        ["Classes", _labels(facts)],
    ]
    # A data set need not have a language, a path or classes.
    rows = [row for row in rows if row[1] != NOT_RECORDED or row[0] in ("Name", "Source", "License")]
    summary = text_at(data, "summary")
    blocks = [prose(summary)] if summary else []
    return "\n\n".join([*blocks, table(["Fact", "Value"], rows), _splits(facts)])


def training_configuration(facts: Facts) -> str:
    values = dict(_flat({key: value for key, value in facts.config.items() if key not in _LEFT_OUT}))
    rows = [[code(key), code(_plain(value))] for key, value in values.items() if value is not None]
    rows.sort(key=lambda row: not row[0].startswith("`training."))  # training first, everything else as it stands
    if not rows:
        return f"Config: {NOT_RECORDED}."
    end = facts.history[-1] if facts.history else None
    length = f" The run ended in epoch {end.epoch:,} after {end.step:,} optimizer steps." if end else ""
    return f"Keys that are null or do not bear on the weights are left out.{length}\n\n{table(['Key', 'Value'], rows)}"


def limitations(facts: Facts) -> str:
    blocks = [declared(facts, "limitations")]
    caveats = [prose(caveat) for caveat in list_at(facts.provenance, "data", "caveats")]
    if caveats:
        blocks += ["### Known of the data", bullets(caveats)]
    found = cautions(facts)
    blocks += [
        "### Found in the facts",
        bullets(found) if found else "Nothing, as far as facts are recorded.",
        f"Looked for: {CHECKS}.",
    ]
    return "\n\n".join(blocks)


def ethical_considerations(facts: Facts) -> str:
    return declared(facts, "ethical_considerations")


def declared(facts: Facts, key: str) -> str:
    """Return what the config declares under `card`, or that it has still to be written."""
    text = facts.declared(key)
    return to_be_written(key) if text is None else f"{paragraphs(text)}\n\n*Declared in the config, `card.{key}`.*"


def to_be_written(key: str) -> str:
    return f"**To be written**: `card.{key}`"


def recorded(text: str | None) -> str:
    return NOT_RECORDED if text is None else escape(text)


def recorded_code(text: str | None) -> str:
    return NOT_RECORDED if text is None else code(text)


def _declared_cell(facts: Facts, key: str) -> str:
    text = facts.declared(key)
    return to_be_written(key) if text is None else escape(text)


def _license(facts: Facts) -> str:
    text = facts.declared("license")
    unknown = text is not None and hub_license(text) is None
    return _declared_cell(facts, "license") + (" (no identifier of the Hugging Face Hub)" if unknown else "")


def _parameters(facts: Facts) -> str:
    total = number_at(facts.provenance, "model", "num_parameters")
    trained = number_at(facts.provenance, "model", "num_trained_parameters")
    if total is None:
        return NOT_RECORDED
    return f"{total:,.0f}" + (f", of which {trained:,.0f} were trained" if trained not in (None, total) else "")


def _input_shapes(facts: Facts) -> str:
    shapes = mapping_at(facts.provenance, "model", "input_shapes")
    return ", ".join(_shape(name, list_at(shapes, name)) for name in shapes) or NOT_RECORDED


def _shape(name: str, sizes: list[Any]) -> str:
    return f"{code(name)} (batch, {', '.join(escape(size) for size in sizes)})" if sizes else ""


def _labels(facts: Facts) -> str:
    labels = [code(label) for label in list_at(facts.provenance, "data", "labels")]
    more = ", …" if len(labels) > _MOST_LABELS else ""
    return f"{len(labels):,} ({', '.join(labels[:_MOST_LABELS])}{more})" if labels else NOT_RECORDED


def _splits(facts: Facts) -> str:
    splits = mapping_at(facts.provenance, "data", "splits")
    if not splits:
        return f"Splits: {NOT_RECORDED}."
    sizes = {name: number_at(splits, name, "num_samples") for name in splits}
    total = sum(size or 0 for size in sizes.values())
    rows = [
        [
            code(name),
            NOT_RECORDED if size is None else figure(int(size)),
            "—" if size is None or not total else percent(size / total, num_decimals=1),
            recorded_code(text_at(splits, name, "sha256")),
        ]
        for name, size in sizes.items()
    ]
    return table(["Split", "Samples", "Share", "sha256 of the content"], rows, "lrr")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key in values:
        value = at(values, key)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
