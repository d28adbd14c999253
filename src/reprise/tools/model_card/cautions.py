"""What a reader of the figures must know, found by looking at the facts."""

from collections.abc import Iterator

from reprise.files.json_values import at, mapping_at, number_at, text_at
from reprise.text.markdown import code, escape
from reprise.text.numbers import count, figure, interval, is_higher_better, metric_title, score
from reprise.tools.model_card.facts import Facts

SMALL_CLASS = 30
"""Samples below which the figures of one class say little."""
OVERFIT_RATIO = 1.5
"""Validation loss over training loss above which the model is said to overfit."""

CHECKS = (
    f"an unfinished run, a missing test split, classes with fewer than {SMALL_CLASS} samples, classes that are never "
    f"predicted, a validation loss above {OVERFIT_RATIO} times the training loss, steps that were skipped, "
    "baselines that are as good, uncommitted changes, determinism that was switched off, and operations without "
    "deterministic kernels"
)
"""What `cautions` looks for."""


def cautions(facts: Facts) -> list[str]:
    """Return one sentence of Markdown for each thing found."""
    return [sentence for find in _FINDERS for sentence in find(facts)]


def _unfinished(facts: Facts) -> Iterator[str]:
    status = text_at(facts.status, "status")
    if status in ("interrupted", "failed"):
        reason = text_at(facts.status, "reason")
        yield f"The run did not finish: it is {status}{f' ({escape(reason)})' if reason else ''}."


def _no_test_split(facts: Facts) -> Iterator[str]:
    splits = mapping_at(facts.provenance, "data", "splits")
    if splits and "test" not in splits:
        yield "There is no test split: the figures are of samples that chose the checkpoint, and flatter it."
    elif facts.split != "test":
        yield "No figure of a test split is recorded."


def _small_classes(facts: Facts) -> Iterator[str]:
    classes = facts.confusion_matrix.classes if facts.confusion_matrix else []
    small = sorted((c for c in classes if c.num_samples < SMALL_CLASS), key=lambda c: c.num_samples)
    if small:
        named = ", ".join(f"{code(c.name)} ({c.num_samples})" for c in small[:10]) + (", …" if len(small) > 10 else "")
        yield (
            f"Of {count(len(classes), 'class', 'classes')}, {len(small)} {'has' if len(small) == 1 else 'have'} fewer "
            f"than {SMALL_CLASS} {escape(facts.split or 'evaluated')} samples, too few for firm figures: {named}."
        )


def _unpredicted(facts: Facts) -> Iterator[str]:
    classes = facts.confusion_matrix.classes if facts.confusion_matrix else []
    never = [code(c.name) for c in classes if c.num_samples and not c.num_predicted]
    if never:
        yield f"Never predicted, though there are samples: {', '.join(never[:10])}{', …' if len(never) > 10 else ''}."


def _overfit(facts: Facts) -> Iterator[str]:
    losses = mapping_at(facts.results, "validation_metrics") or facts.metrics
    train, val = number_at(losses, "train/loss"), number_at(losses, "val/loss")
    if train is not None and val is not None and train > 0 and val > OVERFIT_RATIO * train:
        yield (
            f"The model overfits: at this checkpoint the validation loss is {figure(val)}, "
            f"{figure(val / train)} times the training loss of {figure(train)}."
        )


def _skipped(facts: Facts) -> Iterator[str]:
    counts = [value for entry in facts.history if (value := entry.metrics.get("train/skipped_steps")) is not None]
    if counts and counts[-1]:
        yield (
            f"{count(int(counts[-1]), 'step')} of {facts.history[-1].step:,} left the model as it was, since loss or "
            "gradient was not finite."
        )


def _baselines(facts: Facts) -> Iterator[str]:
    name = facts.headline
    if name is None or (higher_better := is_higher_better(name)) is None:
        return
    value, bounds = facts.scores[name], facts.intervals.get(name)
    title = metric_title(name).lower()
    for baseline, scores in facts.baselines.items():
        if name not in scores:
            continue
        other = f"{escape(baseline)} ({score(name, scores[name])})"
        if bounds and bounds[0] <= scores[name] <= bounds[1]:
            yield (
                f"The interval of the {escape(title)} ({interval(name, bounds)}) includes the baseline {other}: these "
                "samples do not show which of the two is better."
            )
        elif scores[name] == value or (scores[name] > value) == higher_better:
            yield f"The {escape(title)} of {score(name, value)} is not better than that of the baseline {other}."


def _dirty(facts: Facts) -> Iterator[str]:
    if at(facts.provenance, "code", "dirty") is True:
        yield "The code had changes that were not committed: the commit alone does not give this run again."


def _indeterministic(facts: Facts) -> Iterator[str]:
    if at(facts.config, "deterministic") is False:
        yield "Deterministic kernels were switched off: a repeated run may end in other weights."
    elif warned := facts.nondeterministic_operations:
        yield f"Without deterministic kernels: {', '.join(map(code, warned))}; a repeated run may end in other weights."


_FINDERS = (
    _unfinished,
    _no_test_split,
    _small_classes,
    _unpredicted,
    _overfit,
    _skipped,
    _baselines,
    _dirty,
    _indeterministic,
)
