"""Trains a run again from its directory alone, compares the two to the bit, and explains a difference.

The repeat is a child process with the recorded code, so that nothing of this process shifts it.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import reprise
from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.metrics_log import last_metrics
from reprise.runs.provenance import patches_made_in
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.tools.reproduction.differing_facts import differing_facts, other_splits, provenance_of
from reprise.tools.reproduction.divergence import find_divergence
from reprise.tools.reproduction.explanation import candidates, explain, is_worth_a_second_repeat
from reprise.tools.reproduction.findings import Findings
from reprise.tools.reproduction.recorded_code import (
    changed_files,
    checked_out,
    find_clone,
    is_commit_here,
    patched_files,
)
from reprise.tools.reproduction.verdict import Verdict
from reprise.tools.variants import moves_bits
from reprise.training.ordered_sums import has_order_of_one

Repeat = Callable[[int | None], RunDirectory]
"""Trains the run again for so many optimizer steps, or for all, and returns the new run."""


def reproduce(
    run_dir: str | Path,
    *,
    current_code: bool = False,
    steps: int | None = None,
    trusted_packages: Sequence[str] = (),
    keep: bool = False,
    clone: Path | None = None,
    trust_code: bool = False,
) -> Verdict:
    """Train the run in `run_dir` again, in a scratch directory, and return how the two compare.

    The code is that of the recorded commit with the run's own `code.patch`, or, with `current_code`, the code that lies
    here. A patch that was not made in this clone is run only with `trust_code`: it is a program from somebody else.
    `steps`: compare only so many optimizer steps. `trusted_packages`: packages beyond those under `src/` that the run's
    parts may be imported from; what the run directory says about that is not believed. `keep`: leave the repeat on
    disk. `clone`: where the commit is.

    Raises:
        InputError: if there is no such run, or its code is not here, or it cannot be repeated.
    """
    recorded = open_run(run_dir)
    config = ExperimentConfig.load(recorded.config)
    provenance = provenance_of(recorded)
    last_step = _last_step(recorded)
    is_complete = recorded.read_status().get("status") == "completed"
    if steps is not None and steps < 1:
        raise InputError(f"--steps: expected 1 or more, got {steps}")
    if not last_step:
        raise InputError(f"{recorded.path}: the run has done no step that a repeat could be compared with")
    is_prefix = not is_complete or (steps is not None and steps < last_step)
    stop = min(steps or last_step, last_step) if is_prefix else None

    clone = clone or find_clone()
    commit, patch = provenance.get("code", {}).get("commit"), _patch(recorded)
    code: dict[str, Any] = {"unknown_code": _unknown_code(clone, provenance, patch, current_code)}
    notes = _notes(recorded, config, is_complete, last_step, stop)
    with ExitStack() as stack:
        stack.enter_context(_stoppable())
        if current_code:
            notes.append(f"the repeat ran the code that lies in {clone}, not the recorded code")
            root = clone
            if is_commit_here(clone, commit):
                code["changed_files"] = changed_files(clone, commit, patch)
        else:
            if patch is not None and not (trust_code or _was_made_in(clone, patch)):
                raise InputError(
                    f"{patch} is code that was not made in {clone}, and repeating the run runs it; read it, and add "
                    "--trust-code if you trust it as you would trust a program"
                )
            root = stack.enter_context(checked_out(clone, commit, patch))
            if patch is not None:
                notes.append(f"the code has uncommitted changes, applied: {', '.join(patched_files(clone, patch))}")
        scratch = Path(tempfile.mkdtemp(prefix="reprise-repeat-"))
        if keep:
            notes.append(f"the repeat was kept in {scratch}")
        else:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        variables = {key: value for key, value in provenance.get("determinism", {}).items() if key.isupper()}

        def repeat(num_steps: int | None) -> RunDirectory:
            output = Path(tempfile.mkdtemp(dir=scratch))
            _train_again(root / "src", recorded, output, num_steps, trusted_packages, variables)
            (path,) = (output / "experiments").glob("*/repeat")
            return RunDirectory(path)

        return judge(recorded, repeat(stop), stop, repeat, code, notes)


def judge(
    recorded: RunDirectory,
    repeated: RunDirectory,
    steps: int | None = None,
    repeat: Repeat | None = None,
    code: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Verdict:
    """Compare a run with its repeat and explain what differs.

    `steps`: how far the repeat went; None if to the end. `repeat` makes a second one where it is needed to see whether
    the first is repeatable at all. `code`: what is known about the code, as keyword arguments of `Facts`.
    """
    findings = find_divergence(recorded, repeated, steps, is_complete=steps is None)
    facts = differing_facts(recorded, repeated, code or {})
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
        facts = differing_facts(recorded, repeated, {**(code or {}), "disagreement": disagreement})
        causes = explain(findings, facts)
    agree = None if disagreement is None else not disagreement
    return Verdict(findings, causes, candidates(facts), agree, notes=notes, is_prefix=is_prefix)


def _disagreement(first: RunDirectory, second: RunDirectory, steps: int | None) -> list[str]:
    found = [f"data split `{name}`" for name in other_splits(provenance_of(first), provenance_of(second))]
    findings: Findings = find_divergence(first, second, steps, is_complete=steps is None)
    if not findings.are_equal:
        step = findings.first_step
        at = "the results" if step is None else "the initial weights" if step == 0 else f"from step {step} on"
        found.append(at)
    return found


def _patch(run: RunDirectory) -> Path | None:
    return run.code_patch if run.code_patch.exists() else None


def _was_made_in(clone: Path, patch: Path) -> bool:
    known = patches_made_in(clone)
    return known is not None and (known / hashlib.sha256(patch.read_bytes()).hexdigest()).is_file()


def _last_step(run: RunDirectory) -> int:
    """Return the last step of which something is known that a repeat can be held against."""
    last = last_metrics(run.metrics_log)
    step = 0 if last is None else last.step
    return max(step, read_checkpoint(run.last_checkpoint)["step"]) if run.last_checkpoint.exists() else step


def _unknown_code(clone: Path, provenance: Mapping[str, Any], patch: Path | None, current_code: bool) -> str | None:
    recorded = provenance.get("code", {})
    commit = recorded.get("commit")
    if current_code and commit is None:
        return "the recorded code is not known: the run was started from no git clone"
    if current_code and not is_commit_here(clone, commit):
        return f"the recorded commit {commit} is not in this clone, so that the code may differ"
    expected = recorded.get("patch_sha256")
    if patch is None and (expected is not None or (recorded.get("dirty") and "patch_sha256" not in recorded)):
        return "the recorded code had uncommitted changes, and there is no code.patch that holds them"
    if patch is not None and expected not in (None, hashlib.sha256(patch.read_bytes()).hexdigest()):
        return "code.patch is not the one that was recorded, so that the code may differ"
    return None


def _notes(
    run: RunDirectory, config: ExperimentConfig, is_complete: bool, last_step: int, stop: int | None
) -> list[str]:
    notes = []
    if not is_complete:
        notes.append(f"the run is not complete; what is there, up to step {last_step}, was compared")
    if stop is not None and is_complete:
        notes.append(f"only the first {stop} of {last_step} steps were compared")
    num_processes, training = provenance_of(run).get("hardware", {}).get("num_processes") or 1, config.training
    if num_processes > 1:
        same = has_order_of_one(num_processes, training.num_microbatches or 0, training.parallel, training.reduction)
        notes.append(
            f"{num_processes} processes shared the run, and one has repeated it, which sums gradients in "
            + (
                "the same order"
                if same
                else "another order; for the same bits give the card's command, with torchrun, and compare the two runs"
            )
        )
    for attempt in run.read_status().get("attempts", ())[1:]:
        changes = [c for c in attempt["changes"] if moves_bits(c["key"])]
        if changes and attempt["from_step"]:
            told = ", ".join(f"{c['key']} {c['from']!r} → {c['to']!r}" for c in changes)
            notes.append(
                f"the run was extended at step {attempt['from_step']} ({told}); the repeat has the final config from "
                "the start, and cannot be bit-identical where a change acts on earlier steps, as the length does on "
                "most schedules"
            )
    return notes


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM unwind like SIGINT, so that nothing is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _train_again(
    source: Path,
    recorded: RunDirectory,
    output: Path,
    steps: int | None,
    trusted_packages: Sequence[str],
    variables: Mapping[str, str | None],
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    environment |= {name: value for name, value in variables.items() if value is not None}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    script = Path(reprise.__file__).with_name("cli") / "repetition.py"
    # -P: the folder of that script must not be searched for modules.
    command = [sys.executable, "-P", str(script), str(source), str(recorded.config), str(output), str(steps or "all")]
    # Its progress goes to stderr, so that stdout holds the verdict alone.
    child = subprocess.Popen([*command, *trusted_packages], env=environment, stdout=2, stderr=subprocess.PIPE)
    try:
        _, said = child.communicate()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    message = said.decode(errors="replace").strip()
    if child.returncode == 2:
        raise InputError(f"the run cannot be repeated here: {message.removeprefix('Error: ')}")
    if child.returncode == 75 and steps is None:
        raise KeyboardInterrupt
    if child.returncode not in (0, 75):
        raise RuntimeError(f"the repeat ended with exit code {child.returncode}:\n{message}")
