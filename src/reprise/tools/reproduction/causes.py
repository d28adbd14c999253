"""Names the likeliest cause of a difference between two runs: facts that differ and findings in, sentences out.

What differs first decides which facts can be the cause: a thread count does not make other data, but it does make
other weights after equal data and equal initial weights. This module reads no files and measures nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.files.differences import Difference
from reprise.text.listing import first_few
from reprise.tools.reproduction.findings import Findings, value_text


@dataclass(frozen=True)
class Cause:
    kind: str
    sentence: str


_CODE = "the code differs in these files: {first}"
_EXTENDED = "the run was extended: {1} was {first} up to step {0}, then {second}, which the repeat has from the start"
_NOT_REPEATABLE = "the run is not repeatable: two repeats here differ too ({first}). Candidates: {second}"
_REWRITTEN = "metrics.jsonl was changed after it was written (step {first}): the weights are the same"
_LIBRARIES = r"environment\.packages\.(transformers|numpy|scikit-learn|tokenizers|datasets|safetensors)"
# Kind of cause, the facts of that kind, and the sentence; of facts that fit several rows, the first row speaks. The
# likeliest cause of other weights after equal data and equal initial weights stands first. A fact that fits no row has
# no way into a result.
_CAUSES = (
    ("not repeatable", r"repeats", _NOT_REPEATABLE),
    ("config", r"config\.(.+)", "config.json was changed: {0} was {first} in training, is {second} now"),
    ("extension", r"extension\.(\d+)\.(.+)", _EXTENDED),
    ("code.data", r"code\.data", _CODE),
    ("code.model", r"code\.model", _CODE),
    ("code.evaluation", r"code\.evaluation", _CODE),
    ("code", r"code", _CODE),
    ("code", r"code\.commit", "commit {change}"),
    ("code", r"code\.patch_sha256", "uncommitted changes with sha256 {change}"),
    ("code", r"code\.files_sha256", "files of the code with sha256 {change}"),
    ("code", r"code\.reprise", "version of the engine {change}"),
    ("move", r"resumed\.(\d+)\.(.+)", "the run was resumed elsewhere: from step {0} on, {1}"),
    ("train data", r"data\.splits\.(train)\.\w+", "data split `{0}` has another fingerprint"),
    ("device", r"hardware\.device", "device {change}"),
    ("torch", r"environment\.packages\.torch", "torch {change}"),
    ("instruction set", r"\w+\.instruction_set", "recorded with {first} kernels, here {second}"),
    ("threads", r"\w+\.num_threads", "{first} thread{s} → {second}"),
    ("threads", r"hardware\.num_processes", "processes that shared the run {change}"),
    ("determinism", r"determinism\.debug_mode", "deterministic kernels: {change}"),
    ("determinism", r"determinism\.(?!nondeterministic_operations)([a-z].*)", "setting {0}: {change}"),
    ("variable", r"determinism\.(?!PYTHONHASHSEED)([A-Z].*)", "environment variable {0}: {change}"),
    ("gpu", r"hardware\.gpus", "GPU {change}"),
    ("gpu", r"hardware\.cuda", "CUDA {change}"),
    ("gpu", r"hardware\.cudnn", "cuDNN {change}"),
    ("gpu", r"hardware\.driver", "the driver of the GPU {change}"),
    ("gpu", r"environment\.packages\.((?:nvidia-|triton).*)", "{0} {change}"),
    ("unknown code", r"code\.unknown", "{first}"),
    ("library", _LIBRARIES, "{0} {change}"),
    ("processor", r"hardware\.cpu", "processor {change}"),
    ("hash seed", r"determinism\.(PYTHONHASHSEED)", "environment variable {0}: {change}"),
    ("python", r"environment\.python", "Python {change}"),
    ("initial weights", r"model\.initial_sha256", "the initial weights are others"),
    ("other data", r"data\.splits\.(.+)\.\w+", "data split `{0}` has another fingerprint"),
    ("record", r"record", _REWRITTEN),
    ("package", r"environment\.packages\.(.+)", "{0} {change}"),
    ("platform", r"environment\.platform", "operating system {change}"),
    ("platform", r"(?:environment|hardware)\.(?!not_as_locked|memory_bytes|num_cores)(.+)", "{0}: {change}"),
)
# The kinds that come before the others, by what differs first.
_FIRST = {
    "data": ("not repeatable", "config", "extension", "code.data", "hash seed", "train data", "other data", "code"),
    "initial weights": ("not repeatable", "config", "extension", "code.model", "code", "code.data", "unknown code"),
    "training": (),
    "evaluation": ("not repeatable", "config", "other data", "code.evaluation", "code.data", "code", "record"),
    "record": ("not repeatable", "config", "code.evaluation", "record"),
}
# Where nothing better is known than these, it is worth a second repeat to see whether the first is repeatable at all.
_WEAK = ("train data", "other data", "initial weights", "record", "package", "platform", "processor", "python")
# What the engine's files are the code of, where it is not training.
_CODE_OF = {
    "code.data": ("src/reprise/data/", "src/reprise/randomness"),
    "code.model": ("src/reprise/models/",),
    "code.evaluation": (
        *("src/reprise/callbacks/", "src/reprise/metrics.py", "src/reprise/training/evaluation.py"),
        *("src/reprise/runs/results.py", "src/reprise/runs/export"),
    ),
}


def explain(findings: Findings, facts: Sequence[Difference]) -> list[Cause]:
    """Return what can have made the difference, the most likely cause first; empty if nothing known can.

    `facts`: what differs between the two runs, the recorded one first, by dotted key. Beyond the keys of
    `provenance.json` these are `config.KEY`; `extension.STEP.KEY`, a change by `resume`; `resumed.STEP.FACT`, a fact
    that changed when the run was resumed; `code.unknown`, why it is not known whether the code is the same; what
    `changed_code` returns; and `repeats`, in what two repeats differ, and what can make them.
    """
    symptom = find_symptom(findings, facts)
    order = [*_FIRST[symptom], *(kind for kind, _, _ in _CAUSES)]
    facts = [_listed(fact, order) if fact.key == "code.files" else fact for fact in facts]
    if symptom in ("record", "evaluation") and findings.lines and not findings.weights_differ:
        steps = ", ".join(str(line.step) for line in findings.lines[:5]) + ("" if len(findings.lines) <= 5 else " …")
        facts.append(Difference("record", steps, None))
    causes = [cause for fact in facts if _came_in_time(fact, findings) and (cause := cause_of(fact)) is not None]
    return _gather_packages(sorted(dict.fromkeys(causes), key=lambda cause: order.index(cause.kind)))


def cause_of(fact: Difference) -> Cause | None:
    """Return what a fact that differs has to say; None if it cannot move bits."""
    for kind, pattern, sentence in _CAUSES:
        if (match := re.fullmatch(pattern, fact.key)) is None:
            continue
        if kind == "move":
            cause = cause_of(Difference(match[2], fact.first, fact.second))
            return cause and Cause(kind, sentence.format(match[1], cause.sentence))
        first, second = (_said(fact.key, value) for value in (fact.first, fact.second))
        words = {"first": first, "second": second, "change": f"{first} → {second}", "s": "" if first == "1" else "s"}
        return Cause(kind, sentence.format(*match.groups(), **words))
    return None


def find_symptom(findings: Findings, facts: Sequence[Difference]) -> str:
    """Return what differs first: `data`, `initial weights`, `training`, `evaluation`, or only the `record` of it."""
    splits = {split for fact in facts if (split := split_of(fact.key)) is not None}
    trains_differently = findings.weights_differ or any(line.name.startswith("train/") for line in findings.lines)
    if splits and ("train" in splits or not trains_differently):
        return "data"
    if findings.initial_weights_differ:
        return "initial weights"
    if findings.lines and not findings.weights_differ:
        # Training that went another way does not come back to the same weights.
        if any(c.step >= findings.lines[-1].step for c in findings.checkpoints):
            return "record" if trains_differently else "evaluation"
    elif not findings.weights_differ:
        return "evaluation"
    return "training"


def is_worth_a_second_repeat(causes: Sequence[Cause]) -> bool:
    """Return whether nothing is known that must change the result, so that it may be another one each time."""
    return all(cause.kind in _WEAK for cause in causes[:1])


def split_of(key: str) -> str | None:
    """Return the split whose content a fact is about."""
    return key.removeprefix("data.splits.").rpartition(".")[0] if key.startswith("data.splits.") else None


def changed_code(files: Sequence[str], parts: Mapping[str, str]) -> list[Difference]:
    """Return the fact that these files differ, as far as they are code of the run: the kind of cause of each.

    `parts`: of the files of the run's own parts, whether they are its `data` or its `model`.
    """
    # Changed configs and scripts show in config.json.
    kinds = {name: _kind_of_code(name, parts) for name in files if name.startswith("src/")}
    return [Difference("code.files", kinds, None)] if kinds else []


def _kind_of_code(name: str, parts: Mapping[str, str]) -> str:
    if name in parts:
        return f"code.{parts[name]}"
    return next((kind for kind, beginnings in _CODE_OF.items() if name.startswith(beginnings)), "code")


def _listed(fact: Difference, order: Sequence[str]) -> Difference:
    """Return the fact about changed files in words, the likeliest file first, under the kind of that one."""
    files = sorted(fact.first, key=lambda name: order.index(fact.first[name]))
    return Difference(fact.first[files[0]], first_few(files, 10), None)


def _came_in_time(fact: Difference, findings: Findings) -> bool:
    """Return whether a fact that holds from a step on, or up to it, can have made what differs first."""
    change, _, rest = fact.key.partition(".")
    if findings.first_step is None or change not in ("extension", "resumed"):
        return True
    step = int(rest.partition(".")[0])
    return findings.first_step <= step if change == "extension" else findings.first_step > step


def _said(key: str, value: Any) -> str:
    if key == "hardware.gpus":
        return ", ".join(str(gpu.get("name")) for gpu in value or ()) or "none"
    if value is None:
        return "not installed" if key.startswith("environment.packages.") else "not set"
    if key.endswith(".instruction_set"):
        return str(value).replace("AVX512", "AVX-512").replace("DEFAULT", "default")
    return value if isinstance(value, str) else value_text(value)


def _gather_packages(causes: Sequence[Cause]) -> list[Cause]:
    """Put the packages that are hardly the cause into one sentence."""
    packages = [cause for cause in causes if cause.kind == "package"]
    if len(packages) <= 3:
        return list(causes)
    names = ", ".join(cause.sentence for cause in packages[:3])
    place = causes.index(packages[0])  # they stand together
    gathered = Cause("package", f"{names} and {len(packages) - 3} other packages")
    return [*causes[:place], gathered, *causes[place + len(packages) :]]
