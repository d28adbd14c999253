"""Code that loads the model and commands that repeat the run; both work as printed."""

import json
import re
import shlex
from typing import Any

from reprise.files.json_values import at, list_at, mappings_at, number_at, text_at
from reprise.text.markdown import one_line
from reprise.tools.model_card.facts import CardFacts

RUN_DIRECTORY = "RUN_DIRECTORY"
"""Stands for the run directory where its path is not known."""
_DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_IMPORT = re.compile(r"(?:import|from) [^(\\]*")


def example(facts: CardFacts) -> str:
    """Return Python code that loads the model and applies it to one batch."""
    usage = (text_at(facts.provenance, "usage") or "").strip("\n").split("\n")
    kind = text_at(facts.provenance, "model", "class") or ""
    is_transformers_model = text_at(facts.provenance, "model", "library") == "transformers"
    imports, ours = ["import torch"], []
    if is_transformers_model and _DOTTED_PATH.fullmatch(kind) and not kind.startswith("__main__."):
        module, _, loader = kind.rpartition(".")
        imports.append(f"from {module} import {loader}")
        load = f"{loader}.from_pretrained(directory)"
    else:
        ours.append("from_pretrained")
        load = "from_pretrained(directory)"
    while usage and (not usage[0].strip() or _IMPORT.fullmatch(usage[0])):
        imports.append(usage.pop(0).strip())
    run_path = facts.run_path or RUN_DIRECTORY
    if not usage:
        ours.append("load_run")
        split = facts.scores.split if facts.scores.split in ("train", "val", "test") else "test"
        usage = [f"run = load_run({_literal(run_path)})", f"batch = run.example_batch({_literal(split)})"]
    if ours:
        imports.append(f"from reprise import {', '.join(ours)}")
    directory = _literal(facts.repository or f"{run_path}/export")
    if facts.repository is not None and not is_transformers_model:
        imports.append("from huggingface_hub import snapshot_download")
        directory = f"snapshot_download({directory})"
    body = [f"directory = {directory}", f"model = {load}", "", *usage, ""]
    body += ["with torch.no_grad():", "    logits = model(**batch).logits", _print(facts, is_transformers_model)]
    imports = sorted({line for line in imports if line}, key=lambda line: (line.startswith("from"), line))
    return "\n".join([*imports, "", *body])


def _print(facts: CardFacts, is_transformers_model: bool) -> str:
    is_classifier = len(facts.logits_shape) == 1 and "classification" in (facts.task or "")
    if is_classifier and is_transformers_model:
        return "print([model.config.id2label[label] for label in logits.argmax(-1).tolist()])"
    return "print(logits.argmax(-1))" if is_classifier else "print(logits.shape)"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def repeat_commands(facts: CardFacts) -> str | None:
    """Return shell commands for the same training as a new run; None where its command is not recorded."""
    if at(facts.provenance, "command", "overrides") is None:
        return None
    commit = text_at(facts.provenance, "code", "commit")
    lines = [f"git checkout {shlex.quote(one_line(commit))}"] if commit else []
    if commit and facts.code_patch_path:
        lines.append(f"git apply {shlex.quote(one_line(facts.code_patch_path))}")
    num_processes = number_at(facts.provenance, "hardware", "num_processes") or 1
    program = ["python"] if num_processes == 1 else ["torchrun", "--nproc-per-node", f"{num_processes:.0f}"]
    return "\n".join([*lines, shlex.join([*program, "scripts/train.py", *_overrides(facts)])])


def _overrides(facts: CardFacts) -> list[str]:
    """Return the overrides of the run, and those that a machine with other defaults needs for the same bits."""
    # Its run_id names the run that exists already, and one run of a sweep is repeated without the sweep.
    given = list_at(facts.provenance, "command", "overrides")
    overrides = {_key(text): one_line(text) for text in given if _key(text) not in ("run_id", "sweep_id")}
    num_threads = number_at(facts.config, "num_threads")
    if num_threads is not None:
        overrides.setdefault("num_threads", f"num_threads={num_threads:.0f}")
    num = number_at(facts.config, "training", "num_microbatches")
    if num not in (None, number_at(facts.config, "training", "gradient_accumulation")):
        overrides.setdefault("training.num_microbatches", f"training.num_microbatches={num:.0f}")
    for attempt in facts.attempts:
        for change in mappings_at(attempt, "changes"):
            key = one_line(text_at(change, "key") or "")
            overrides.pop(key, None)
            overrides[key] = f"++{key}={json.dumps(at(change, 'to'), default=str)}"
    return list(overrides.values())


def _key(override: Any) -> str:
    return str(override).partition("=")[0].strip().lstrip("+")
