"""Compares a run with its repeat: how they differ, the likeliest causes, and the text that says both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reprise.files.differences import Difference
from reprise.runs.run_directory import RunDirectory
from reprise.text.numbers import count
from reprise.tools.reproduction.causes import Cause, explain, is_worth_a_second_repeat
from reprise.tools.reproduction.divergence import find_divergence
from reprise.tools.reproduction.facts import candidates, differing_facts, differing_splits
from reprise.tools.reproduction.findings import CheckpointComparison, Findings, LineDifference, value_text

Repeat = Callable[[int | None], RunDirectory]
"""Trains the run again for so many optimizer steps, or for all, and returns the new run."""

_MAX_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """`causes`: the most likely first; empty for runs that are equal, and where nothing known can be the cause.

    `candidates`: what else can be the cause, where nothing that is known is.
    """

    findings: Findings
    causes: Sequence[Cause] = ()
    candidates: Sequence[str] = ()
    repeats_agree: bool | None = None
    """Whether a second repeat was equal to the first, as far as it was needed; None if there was none."""
    harmless: Sequence[Cause] = ()
    """Facts that differ between runs that are equal."""
    notes: Sequence[str] = ()
    is_prefix: bool = False

    @property
    def is_identical(self) -> bool:
        return self.findings.are_equal

    @property
    def headline(self) -> str:
        if self.is_identical:
            return "bit-identical"
        step = self.findings.first_step
        differs = "differs in its results" if step is None else f"differs from step {step} on"
        return differs if self.causes else f"{differs}: unexplained"

    def text(self) -> str:
        """Return all of it, as lines for a terminal."""
        findings = self.findings
        parts = [self.headline, *(f"  {line}" for line in self._how())]
        if self.causes:
            parts += ["", "Why, most likely cause first:"]
            parts += [f"  {number}. {cause.sentence}" for number, cause in enumerate(self.causes, 1)]
        elif not findings.are_equal:
            parts += ["", "Why: no recorded fact differs. Candidates:", *(f"  - {text}" for text in self.candidates)]
        if self.repeats_agree:
            parts += ["", "Two repeats on this machine agree with each other."]
        if self.harmless:
            parts += ["", "Facts that differ, and moved no bit:", *(f"  - {cause.sentence}" for cause in self.harmless)]
        if self.notes:
            parts += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(parts)

    def _how(self) -> list[str]:
        findings, lines = self.findings, []
        # Not where only the state of the optimizer, the schedule or the loop differs.
        parted = findings.traced[1] is not None or any(checkpoint.tensors for checkpoint in findings.checkpoints)
        if findings.initial_weights_differ:
            lines.append("initial weights: others, before the first step")
        if findings.lines:
            lines += _metric_line(findings.lines[0], findings)
        else:
            lines.append(f"metrics.jsonl: {count(findings.num_lines, 'line')}, all equal")
        for checkpoint in findings.checkpoints:
            lines += _checkpoint(checkpoint)
        if not findings.checkpoints:
            lines.append("weights: not compared, there is no checkpoint of the same step in both")
        elif not findings.lines and parted:
            lines.append("every metric is equal, and the weights are not: the difference is too small to show in them")
        if parted and not findings.initial_weights_differ:
            equal, first = findings.weights_equal_up_to, findings.first_step
            at = f"in step {first}" if first == equal + 1 else f"after step {equal}, by step {first} at the latest"
            lines.append(f"the weights part {at}")
        lines += findings.results[:_MAX_SHOWN]
        if len(findings.results) > _MAX_SHOWN:
            lines.append(f"results: {len(findings.results) - _MAX_SHOWN} differences more")
        if findings.compared_results and not findings.results:
            lines.append(f"{', '.join(findings.compared_results)}: equal")
        elif not findings.compared_results and not self.is_prefix:
            lines.append("results: not compared, they are not there in both")
        return lines


def judge(
    recorded: RunDirectory,
    repeated: RunDirectory,
    steps: int | None = None,
    repeat: Repeat | None = None,
    code: Sequence[Difference] = (),
    notes: Sequence[str] = (),
) -> Verdict:
    """Compare a run with its repeat and explain what differs.

    `steps`: how far the repeat went; None if to the end. `repeat` makes a second one where it is needed to see whether
    the first is repeatable at all. `code`: in what the code is known to differ.
    """
    findings = find_divergence(recorded, repeated, steps, is_complete=steps is None)
    facts = [*code, *differing_facts(recorded, repeated)]
    causes = explain(findings, facts)
    is_prefix = steps is not None
    if findings.are_equal:
        return Verdict(findings, harmless=causes, notes=notes, is_prefix=is_prefix)
    disagreement: list[str] | None = None
    if repeat is not None and is_worth_a_second_repeat(causes):
        enough = steps if findings.first_step is None else max(1, findings.first_step)
        # Where no metric shows the difference, only the weights at the end can.
        second_steps = enough if findings.lines or findings.initial_weights_differ else steps
        disagreement = _disagreement(repeated, repeat(second_steps), second_steps)
    possible = candidates(recorded, disagreement or ())
    if disagreement:
        causes = explain(findings, [*facts, Difference("repeats", "; ".join(disagreement), "; ".join(possible))])
    agree = None if disagreement is None else not disagreement
    return Verdict(findings, causes, possible, agree, notes=notes, is_prefix=is_prefix)


def _disagreement(first: RunDirectory, second: RunDirectory, steps: int | None) -> list[str]:
    found = [f"data split `{name}`" for name in differing_splits(first, second)]
    findings = find_divergence(first, second, steps, is_complete=steps is None)
    if not findings.are_equal:
        step = findings.first_step
        found.append("the results" if step is None else f"from step {step} on" if step else "the initial weights")
    return found


def _metric_line(line: LineDifference, findings: Findings) -> list[str]:
    others = f" (and {', '.join(line.names[1:4])}{' …' if len(line.names) > 4 else ''})" if line.names[1:] else ""
    return [
        f"metrics.jsonl: equal up to step {findings.equal_up_to}, {count(len(findings.lines), 'line')} differ "
        f"of {findings.num_lines}; first at step {line.step}, {line.name}{others}",
        f"    recorded {'nothing' if line.recorded is None else value_text(line.recorded)}",
        f"    repeated {'nothing' if line.repeated is None else value_text(line.repeated)}",
    ]


def _checkpoint(checkpoint: CheckpointComparison) -> list[str]:
    place = f"weights at step {checkpoint.step} ({checkpoint.file})"
    if not checkpoint.tensors:
        if not checkpoint.states:
            return [f"{place}: equal, optimizer and schedule too"]
        return [f"{place}: equal, but not the state of {' and '.join(checkpoint.states)}"]
    lines = [f"{place}: {len(checkpoint.tensors)} of {checkpoint.num_tensors} tensors differ, at most by"]
    for tensor in checkpoint.tensors[:_MAX_SHOWN]:
        lines.append(f"    {tensor.detail if tensor.largest is None else f'{tensor.largest:.3g}'}  {tensor.name}")
    if len(checkpoint.tensors) > _MAX_SHOWN:
        lines.append(f"    … and {len(checkpoint.tensors) - _MAX_SHOWN} more")
    return lines
