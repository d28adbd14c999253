"""What a reader of the figures must know, found by looking at the facts."""

from collections.abc import Iterator, Sequence

from reprise.files.json_values import at, mapping_at, number_at, text_at
from reprise.runs.doubts import doubts
from reprise.text.markdown import Markdown, code, filled
from reprise.text.numbers import count, figure, interval, is_higher_better, metric_title, score
from reprise.tools.model_card.facts import CardFacts

SMALL_CLASS = 30
"""Samples below which the figures of one class say little."""
OVERFIT_RATIO = 1.5
"""Validation loss over training loss above which the model is said to overfit."""
_MOST_NAMED = 10

CHECKS = (
    "an unfinished run, a warm-up or an interval that is longer than the run, batches larger than the training split, "
    "a learning rate that trains nothing or too much, names of classes that are empty or the same, "
    f"a missing test split, classes with fewer than {SMALL_CLASS} samples, classes that are never "
    f"predicted, a validation loss above {OVERFIT_RATIO} times the training loss, skipped steps, baselines that are as "
    "good, figures that differ between files, uncommitted changes, determinism switched off, and operations without "
    "deterministic kernels"
)
"""What `cautions` looks for."""


def cautions(facts: CardFacts) -> list[Markdown]:
    """Return one sentence for each thing found."""
    return [sentence for find in _FINDERS for sentence in find(facts)]


def _unfinished(facts: CardFacts) -> Iterator[Markdown]:
    status, reason = text_at(facts.status, "status"), text_at(facts.status, "reason")
    if status in ("interrupted", "failed"):
        yield filled("The run did not finish: it is {}{}.", status, filled(" ({})", reason) if reason else "")


def _doubtful(facts: CardFacts) -> Iterator[Markdown]:
    for setting, why in doubts(facts.config, mapping_at(facts.provenance, "data")):
        yield filled("{}: {}.", code(setting), why)


def _no_test_split(facts: CardFacts) -> Iterator[Markdown]:
    names = [split.name for split in facts.splits]
    if names and "test" not in names:
        yield Markdown("There is no test split: the figures are of samples that chose the checkpoint, and flatter it.")
    elif facts.scores.split != "test":
        yield Markdown("No figure of a test split is recorded.")


def _small_classes(facts: CardFacts) -> Iterator[Markdown]:
    matrix = facts.scores.confusion_matrix
    classes = matrix.classes if matrix else []
    small = sorted((c for c in classes if c.num_samples < SMALL_CLASS), key=lambda c: c.num_samples)
    if small:
        yield filled(
            "Of {}, {} {} fewer than {} {} samples, too few for firm figures: {}.",
            count(len(classes), "class", "classes"),
            len(small),
            "has" if len(small) == 1 else "have",
            SMALL_CLASS,
            facts.scores.split or "evaluated",
            _first(filled("{} ({})", code(c.name), c.num_samples) for c in small),
        )


def _unpredicted(facts: CardFacts) -> Iterator[Markdown]:
    matrix = facts.scores.confusion_matrix
    never = [code(c.name) for c in (matrix.classes if matrix else []) if c.num_samples and not c.num_predicted]
    if never:
        yield filled("Never predicted, though there are samples: {}.", _first(never))


def _overfit(facts: CardFacts) -> Iterator[Markdown]:
    losses = facts.scores.validation or facts.metrics
    train, val = number_at(losses, "train/loss"), number_at(losses, "val/loss")
    if train is not None and val is not None and train > 0 and val > OVERFIT_RATIO * train:
        yield filled(
            "The model overfits: at this checkpoint the validation loss is {}, {} times the training loss of {}.",
            *map(figure, (val, val / train, train)),
        )


def _skipped(facts: CardFacts) -> Iterator[Markdown]:
    counts = [value for entry in facts.history if (value := entry.metrics.get("train/skipped_steps")) is not None]
    if counts and counts[-1]:
        yield filled(
            "{} of {} did not change the model, because {}.",
            count(int(counts[-1]), "step"),
            figure(facts.history[-1].step),
            "it had no item to train on, or its loss or gradient was not finite"
            if text_at(facts.config, "training", "on_nonfinite") == "skip"
            else "all their labels are masked",
        )


def _baselines(facts: CardFacts) -> Iterator[Markdown]:
    scores = facts.scores
    name = scores.headline
    if name is None or (higher_better := is_higher_better(name)) is None:
        return
    value, bounds = scores.values[name], scores.intervals.get(name)
    title = metric_title(name).lower()
    for baseline, others in scores.baselines.items():
        if name not in others:
            continue
        other = filled("{} ({})", baseline, score(name, others[name]))
        if bounds and bounds[0] <= others[name] <= bounds[1]:
            yield filled(
                "The interval of the {} ({}) includes the baseline {}: these samples do not show which of the two is "
                "better.",
                *(title, interval(name, bounds), other),
            )
        elif others[name] == value or (others[name] > value) == higher_better:
            yield filled("The {} of {} is not better than that of the baseline {}.", title, score(name, value), other)


def _not_stated(facts: CardFacts) -> Iterator[Markdown]:
    for figure_name, why in facts.not_stated.items():
        yield filled("Not stated, since the files of the run differ: {} ({}).", code(figure_name), why)


def _uncommitted(facts: CardFacts) -> Iterator[Markdown]:
    if at(facts.provenance, "code", "dirty") is True:
        yield Markdown("The code had uncommitted changes: the commit alone does not give this run again.")


def _indeterministic(facts: CardFacts) -> Iterator[Markdown]:
    if at(facts.config, "deterministic") is False:
        yield Markdown("Deterministic kernels were switched off: a repeated run may end in different weights.")
    elif warned := facts.nondeterministic_operations:
        yield filled(
            "Without deterministic kernels: {}; a repeated run may end in different weights.",
            Markdown(", ".join(map(code, warned))),
        )


def _first(names: Sequence[Markdown] | Iterator[Markdown]) -> Markdown:
    names = list(names)
    return Markdown(", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else ""))


_FINDERS = (
    _unfinished,
    _doubtful,
    _no_test_split,
    _small_classes,
    _unpredicted,
    _overfit,
    _skipped,
    _baselines,
    _not_stated,
    _uncommitted,
    _indeterministic,
)
