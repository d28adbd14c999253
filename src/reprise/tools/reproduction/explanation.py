"""Explains why two runs differ: facts that differ and findings in, sentences out, the most likely cause first.

What shows first decides which facts can be the cause: other data are not made by a thread count, and other weights
after equal data and equal initial weights are. It reads no files and measures nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprise.files.differences import Difference
from reprise.tools.reproduction.fact_causes import Cause, causes_from_facts, split_of
from reprise.tools.reproduction.findings import Findings, value_text


@dataclass(frozen=True)
class Facts:
    """What is known about both runs beyond their results, as far as it differs."""

    provenance: Sequence[Difference] = ()
    """Facts about data, environment, hardware and determinism, the recorded run first."""
    config: Sequence[Difference] = ()
    """Keys of the config that the recorded run was trained with, and the values in `config.json`."""
    extensions: Sequence[tuple[int, Difference]] = ()
    """Changes by `resume`, with the step from which they held; the repeat has them from the start."""
    moves: Sequence[tuple[int, Difference]] = ()
    """Facts that were others from a step on, where the run was resumed, and what they are in the repeat."""
    changed_files: Sequence[str] = ()
    unknown_code: str | None = None
    """Why it is not known whether the code is the same."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Modules of the run's own parts, as paths: what is theirs, `data` or `model`, by path."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`deterministic`, `compile`, `num_threads`, `PYTHONHASHSEED`, `nondeterministic_operations` and `unknown_splits`
    of the recorded run.
    """
    disagreement: Sequence[str] | None = None
    """In what two repeats on this machine differ from each other; None if there was one repeat only."""


_CODE = ("code.data", "code.model", "code.evaluation", "code")
# Likely causes of other weights after equal data and equal initial weights, the likeliest first; then the others.
_ORDER = (
    *("not repeatable", "config", "extension", *_CODE, "move", "train data", "device", "torch", "instruction set"),
    *("threads", "determinism", "variable", "gpu", "unknown code", "library", "processor", "hash seed", "python"),
    *("initial weights", "other data", "record", "package", "platform"),
)
_FIRST = {
    "data": ("not repeatable", "config", "extension", "code.data", "hash seed", "train data", "other data", "code"),
    "initial weights": ("not repeatable", "config", "extension", "code.model", "code", "code.data", "unknown code"),
    "training": (),
    "evaluation": ("not repeatable", "config", "other data", "code.evaluation", "code.data", "code", "record"),
    "record": ("not repeatable", "config", "code.evaluation", "record"),
}
# Where nothing better is known than these, it is worth a second repeat to see whether the first is repeatable at all.
_WEAK = ("train data", "other data", "initial weights", "record", "package", "platform", "processor", "python")


def find_symptom(findings: Findings, facts: Facts) -> str:
    """Return what differs first: `data`, `initial weights`, `training`, `evaluation`, or only the `record` of it."""
    splits = {split for fact in facts.provenance if (split := split_of(fact.key)) is not None}
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


def explain(findings: Findings, facts: Facts) -> list[Cause]:
    """Return what can have made the difference, the most likely cause first; empty if nothing known can."""
    symptom = find_symptom(findings, facts)
    order = [*_FIRST[symptom], *_ORDER]
    causes = [*_from_config(findings, facts), *_from_code(facts, order), *causes_from_facts(facts.provenance)]
    first = findings.first_step
    for step, fact in facts.moves:
        if first is None or first > step:
            causes += [
                Cause("move", f"the run was resumed elsewhere: from step {step} on, {cause.sentence}")
                for cause in causes_from_facts([fact])
            ]
    if symptom in ("record", "evaluation") and findings.lines and not findings.weights_differ:
        steps = ", ".join(str(line.step) for line in findings.lines[:5]) + ("" if len(findings.lines) <= 5 else " …")
        causes.append(
            Cause("record", f"metrics.jsonl was changed after it was written (step {steps}): the weights are the same")
        )
    if facts.disagreement:
        causes.append(Cause("not repeatable", _not_repeatable(facts)))
    unique = list(dict.fromkeys(causes))
    return _gather_packages(sorted(unique, key=lambda cause: order.index(cause.kind)))


def is_worth_a_second_repeat(causes: Sequence[Cause]) -> bool:
    """Return whether nothing is known that must change the result, so that it may be another one each time."""
    return all(cause.kind in _WEAK for cause in causes[:1])


def candidates(facts: Facts) -> list[str]:
    """Return what can make a run differ from its repeat although no recorded fact does, for this run."""
    settings, found = facts.settings, []
    data_differ = any("data split" in text for text in facts.disagreement or ())
    if data_differ and settings.get("PYTHONHASHSEED") is None:
        found.append("data code that iterates over a `set`: PYTHONHASHSEED was not set; sort it")
    if settings.get("deterministic") is False:
        found.append("kernels that are not deterministic: deterministic=false")
    operations = settings.get("nondeterministic_operations")
    if operations:
        found.append(f"operations without a deterministic implementation: {', '.join(operations)}")
    if settings.get("compile") and settings.get("num_threads") != 1:
        found.append(f"training.compile with {settings.get('num_threads')} threads")
    found += [
        f"data split `{split}`, of which no fingerprint was recorded" for split in settings.get("unknown_splits", ())
    ]
    found.append("a data set, model or callback that draws from a generator that nothing seeds, or reads clock or disk")
    if settings.get("PYTHONHASHSEED") is None and not data_differ:
        found.append("code that iterates over a `set`: PYTHONHASHSEED was not set")
    return found


def _not_repeatable(facts: Facts) -> str:
    differs = "; ".join(facts.disagreement or ())
    return f"the run is not repeatable: two repeats here differ too ({differs}). Candidates: " + "; ".join(
        candidates(facts)
    )


def _from_config(findings: Findings, facts: Facts) -> list[Cause]:
    causes = [
        Cause(
            "config",
            f"config.json was changed: {c.key} was {value_text(c.first)} in training, is {value_text(c.second)} now",
        )
        for c in facts.config
    ]
    first = findings.first_step
    causes += [
        Cause(
            "extension",
            f"the run was extended: {change.key} was {value_text(change.first)} up to step {step}, then "
            f"{value_text(change.second)}, which the repeat has from the start",
        )
        for step, change in facts.extensions
        if first is None or first <= step
    ]
    return causes


def _from_code(facts: Facts, order: Sequence[str]) -> list[Cause]:
    causes = []
    if facts.unknown_code is not None:
        causes.append(Cause("unknown code", facts.unknown_code))
    # Configs and scripts have had their say in config.json.
    files = [name for name in facts.changed_files if name.startswith("src/")]
    if files:
        kinds = {name: _kind_of_code(name, facts.parts) for name in files}
        files.sort(key=lambda name: order.index(kinds[name]))
        listed = ", ".join(files[:10]) + (f" and {len(files) - 10} more" if len(files) > 10 else "")
        causes.append(Cause(kinds[files[0]], f"the code differs in these files: {listed}"))
    return causes


def _kind_of_code(name: str, parts: Mapping[str, str]) -> str:
    if name in parts:
        return f"code.{parts[name]}"
    inside = name.removeprefix("src/reprise/")
    if inside.startswith(("data/", "randomness")):
        return "code.data"
    if inside.startswith("models/"):
        return "code.model"
    evaluates = inside.startswith("callbacks/") or inside in ("metrics.py", "evaluation.py", "results.py", "export.py")
    return "code.evaluation" if evaluates else "code"


def _gather_packages(causes: Sequence[Cause]) -> list[Cause]:
    """Put the packages that are hardly the cause into one sentence."""
    packages = [cause.sentence for cause in causes if cause.kind == "package"]
    if len(packages) <= 3:
        return list(causes)
    gathered = Cause("package", f"{', '.join(packages[:3])} and {len(packages) - 3} other packages")
    place = next(i for i, cause in enumerate(causes) if cause.kind == "package")
    others = [cause for cause in causes if cause.kind != "package"]
    return [*others[:place], gathered, *others[place:]]
