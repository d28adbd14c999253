"""The sections on using the model and on repeating the run: code and commands that work as printed."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from reprise.files.json_values import at, list_at, mapping_at, mappings_at, number_at, text_at
from reprise.text.markdown import code, escape, fenced, one_line, prose, table
from reprise.text.numbers import count, figure
from reprise.tools.model_card.facts import Facts
from reprise.tools.model_card.machine import cost_rows, environment_rows, hardware_rows, shown
from reprise.tools.model_card.sections import NOT_RECORDED, recorded_code

_MAX_DRIFT = 5
_DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_IMPORT = re.compile(r"(?:import|from) [^(\\]*")


def how_to_use(facts: Facts) -> str:
    example = fenced(_example(facts), "python")
    if facts.repository is not None:
        return f"From the Hub; what is imported of `reprise` comes from the repository of the code:\n\n{example}"
    if facts.run is None:
        return f"From the root of the repository, with the directory of the run for `{facts.run_path}`:\n\n{example}"
    return f"From the root of the repository:\n\n{example}"


def reproducibility(facts: Facts) -> str:
    rows = [*_origin(facts), *environment_rows(facts), *hardware_rows(facts), *cost_rows(facts)]
    parts = [_commands(facts), _promise(facts), _checklist(facts), table(["Fact", "Value"], rows), _history(facts)]
    return "\n\n".join(part for part in parts if part)


def _example(facts: Facts) -> str:
    usage = (text_at(facts.provenance, "usage") or "").strip("\n").split("\n")
    kind = text_at(facts.provenance, "model", "class") or ""
    imports, ours = ["import torch"], []
    importable = _DOTTED_PATH.fullmatch(kind) and not kind.startswith("__main__.")
    if facts.is_transformers_model and importable:
        module, _, loader = kind.rpartition(".")
        imports.append(f"from {module} import {loader}")
        load = f"{loader}.from_pretrained(directory)"
    else:
        ours.append("from_pretrained")
        load = "from_pretrained(directory)"
    while usage and (not usage[0].strip() or _IMPORT.fullmatch(usage[0])):
        imports.append(usage.pop(0).strip())
    if not usage:
        ours.append("load_run")
        split = facts.split if facts.split in ("train", "val", "test") else "test"
        usage = [f"run = load_run({_literal(facts.run_path)})", f"batch = run.example_batch({_literal(split)})"]
    if ours:
        imports.append(f"from reprise import {', '.join(ours)}")
    directory = _literal(facts.run.export.as_posix() if facts.run else f"{facts.run_path}/export")
    if facts.repository is not None:
        directory = _literal(facts.repository)
        if not facts.is_transformers_model:
            imports.append("from huggingface_hub import snapshot_download")
            directory = f"snapshot_download({directory})"
    body = [f"directory = {directory}", f"model = {load}", "", *usage, ""]
    body += ["with torch.inference_mode():", "    logits = model(**batch).logits", _print(facts)]
    imports = sorted({line for line in imports if line}, key=lambda line: (line.startswith("from"), line))
    return "\n".join([*imports, "", *body])


def _print(facts: Facts) -> str:
    one_row_each = len(list_at(facts.provenance, "model", "logits_shape")) == 1
    is_classifier = one_row_each and "classification" in (facts.task or "")
    if is_classifier and facts.is_transformers_model:
        return "print([model.config.id2label[label] for label in logits.argmax(-1).tolist()])"
    return "print(logits.argmax(-1))" if is_classifier else "print(logits.shape)"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _commands(facts: Facts) -> str:
    overrides = at(facts.provenance, "command", "overrides")
    if overrides is None:
        return f"The command that started the run: {NOT_RECORDED}."
    # Under its name the run is there already, and a sweep is not repeated for one of its runs; the number of threads
    # changes bits, and may have been left open.
    given = list_at(facts.provenance, "command", "overrides")
    arguments = [one_line(override) for override in given if _key(override) not in ("run_id", "sweep_id")]
    num_threads = number_at(facts.config, "num_threads")
    if num_threads is not None and "num_threads" not in {_key(argument) for argument in arguments}:
        arguments.append(f"num_threads={num_threads:.0f}")
    num, given_num = number_at(facts.config, "training", "num_microbatches"), "training.num_microbatches"
    is_default = num in (None, number_at(facts.config, "training", "gradient_accumulation"))
    if not is_default and given_num not in {_key(argument) for argument in arguments}:
        arguments.append(f"{given_num}={num:.0f}")
    for attempt in _attempts(facts):
        for change in mappings_at(attempt, "changes"):
            key = one_line(text_at(change, "key") or "")
            arguments = [argument for argument in arguments if _key(argument) != key]
            arguments.append(f"++{key}={json.dumps(at(change, 'to'), default=str)}")
    commit = text_at(facts.provenance, "code", "commit")
    lines = [f"git checkout {shlex.quote(one_line(commit))}"] if commit else []
    # What was changed need not be code; then there is no patch.
    source = mapping_at(facts.provenance, "code")
    is_patched = at(source, "dirty") is True and (
        "patch_sha256" not in source or at(source, "patch_sha256") is not None
    )
    if commit and is_patched and facts.run:
        lines.append(f"git apply {shlex.quote(one_line(facts.run_path) + '/code.patch')}")
    num_processes = number_at(facts.provenance, "hardware", "num_processes") or 1
    command = ["python"] if num_processes == 1 else ["torchrun", "--nproc-per-node", f"{num_processes:.0f}"]
    lines.append(shlex.join([*command, "scripts/train.py", *arguments]))
    return f"The same training as a new run:\n\n{fenced(chr(10).join(lines), 'bash')}"


def _key(override: Any) -> str:
    return str(override).partition("=")[0].strip().lstrip("+")


def _promise(facts: Facts) -> str:
    if at(facts.config, "deterministic") is None:
        return f"Determinism: {NOT_RECORDED}, so nothing is promised about the bits of a repeated run."
    if at(facts.config, "deterministic") is False:
        return (
            "Deterministic kernels were switched off (`deterministic: false`): nothing is promised about the bits of a "
            "repeated run."
        )
    if warned := facts.nondeterministic_operations:
        return (
            f"Deterministic kernels were asked for (`deterministic: true`), but {', '.join(map(code, warned))} warned "
            "that there is none: nothing is promised about the bits of a repeated run."
        )
    return (
        f"{_tier(facts)} Promised: same machine class, same bits. On the same type of processor or accelerator, with "
        "the same number of threads and the same package versions, a repeated run ends in identical weights, metrics "
        "and predictions. Elsewhere digits may differ."
    )


def _tier(facts: Facts) -> str:
    if at(facts.config, "deterministic") == "strict":
        return "Deterministic kernels only (`deterministic: strict`): an operation without one would have failed."
    if facts.nondeterministic_operations is None:
        return f"Deterministic kernels (`deterministic: true`); whether an operation lacks one is {NOT_RECORDED}."
    return "Deterministic kernels (`deterministic: true`); no operation warned that it has none."


def _checklist(facts: Facts) -> str:
    if not facts.checklist:
        return f"Checklist: {NOT_RECORDED}."
    rows = [[escape(line.title), escape(line.verdict), prose(line.evidence)] for line in facts.checklist]
    return (
        "### Checklist\n\nJudged from the files of the run; `scripts/audit.py` does it again, and "
        f"`scripts/reproduce.py` repeats the run.\n\n{table(['Check', 'Verdict', 'Evidence'], rows)}"
    )


def _origin(facts: Facts) -> list[list[str]]:
    source = mapping_at(facts.provenance, "code")
    dirty = at(source, "dirty")
    splits = mapping_at(facts.provenance, "data", "splits")
    hashes = [f"{code(name)} {code(sha256[:12])}" for name in splits if (sha256 := text_at(splits, name, "sha256"))]
    settings = mapping_at(facts.provenance, "determinism") or {
        key: value for key in ("deterministic", "num_threads") if (value := at(facts.config, key)) is not None
    }
    determinism = [
        f"{code(key)} {code(json.dumps(value, default=str))}"
        for key, value in settings.items()
        if value is not None and key != "nondeterministic_operations"
    ]
    return [
        ["Run directory", code(facts.run_path) if facts.run else NOT_RECORDED],
        ["Commit", recorded_code(text_at(source, "commit"))],
        ["Branch", recorded_code(text_at(source, "branch"))],
        ["Repository", recorded_code(text_at(source, "remote"))],
        ["Uncommitted changes", NOT_RECORDED if dirty is None else "yes" if dirty else "no"],
        ["Seed", shown(at(facts.config, "seed"))],
        ["Determinism", ", ".join(determinism) or NOT_RECORDED],
        ["Data, sha256", f"{', '.join(hashes)} (first 12 digits)" if hashes else NOT_RECORDED],
        ["Initial weights, sha256", recorded_code(text_at(facts.provenance, "model", "initial_sha256"))],
        ["Weights of the figures, sha256", recorded_code(text_at(facts.results, "weights_sha256"))],
        ["Attempts", _summary(facts)],
    ]


def _attempts(facts: Facts) -> list[Mapping[str, Any]]:
    return mappings_at(facts.status, "attempts")


def _history(facts: Facts) -> str:
    """Return how the run went on after its first attempt; empty if it went through in one."""
    attempts = _attempts(facts)
    if len(attempts) < 2:
        return ""
    rows = []
    for number, attempt in enumerate(attempts, 1):
        changes = [
            f"{code(text_at(change, 'key') or '')} from {_value(at(change, 'from'))} to {_value(at(change, 'to'))}"
            for change in mappings_at(attempt, "changes")
        ]
        drifted = [
            f"{code(text_at(fact, 'fact') or '')} from {_value(at(fact, 'recorded'))} to {_value(at(fact, 'now'))}"
            for fact in mappings_at(attempt, "drift")
        ]
        ended = "the last" if number == len(attempts) else escape(text_at(attempt, "status") or "")
        rows.append(
            [
                str(number),
                escape(text_at(attempt, "started") or ""),
                figure(int(number_at(attempt, "from_step") or 0)),
                ended,
                "; ".join(changes) or "—",
                "; ".join(drifted[:_MAX_DRIFT]) + (" …" if len(drifted) > _MAX_DRIFT else "") or "—",
            ]
        )
    headers = ["Attempt", "Started", "From step", "Ended", "Changes of the config", "Other than at the first start"]
    return "### History\n\n" + table(headers, rows)


def _value(value: Any) -> str:
    return code(json.dumps(value, ensure_ascii=False, default=str))


def _summary(facts: Facts) -> str:
    attempts = _attempts(facts)
    if not attempts:
        return NOT_RECORDED
    if len(attempts) == 1:
        return "1, never interrupted" if text_at(facts.status, "status") not in ("interrupted", "failed") else "1"
    steps = [figure(int(number_at(attempt, "from_step") or 0)) for attempt in attempts[1:]]
    stopped = count(len(attempts) - 1, "time")
    return f"{len(attempts)}: stopped {stopped}, resumed from step {', '.join(steps)}"
