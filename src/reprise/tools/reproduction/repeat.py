"""Trains a run again from its directory alone, and has the two compared to the bit.

The repeat is a child process with the recorded code, so that nothing of this process shifts it.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import reprise
from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.files.differences import Difference
from reprise.files.json_values import at
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.code_files import code_sha256, tree_of_code
from reprise.runs.metrics_log import last_metrics
from reprise.runs.provenance import patches_made_in, read_provenance
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.tools.reproduction.causes import changed_code
from reprise.tools.reproduction.facts import parts_of
from reprise.tools.reproduction.recorded_code import (
    changed_files,
    checked_out,
    find_clone,
    find_tree,
    is_commit_here,
    patched_files,
)
from reprise.tools.reproduction.verdict import Verdict, judge
from reprise.training.ordered_sums import has_order_of_one


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
    provenance = read_provenance(recorded.provenance)
    last_step = _last_step(recorded)
    is_complete = recorded.read_status().get("status") == "completed"
    if steps is not None and steps < 1:
        raise InputError(f"--steps: expected 1 or more, got {steps}")
    if not last_step:
        raise InputError(f"{recorded.path}: the run has done no step that a repeat could be compared with")
    is_prefix = not is_complete or (steps is not None and steps < last_step)
    stop = min(steps or last_step, last_step) if is_prefix else None

    commit, patch = at(provenance, "code", "commit"), recorded.code_patch if recorded.code_patch.exists() else None
    by_files = commit is None and at(provenance, "code", "files_sha256") is not None
    if clone is None:
        clone = tree_of_code() if by_files else find_tree() if current_code else find_clone()
    unknown = _unknown_code(clone, provenance, patch, current_code)
    code = [] if unknown is None else [Difference("code.unknown", unknown, None)]
    notes = _notes(config, provenance, is_complete, last_step, stop)
    with ExitStack() as stack:
        # SIGTERM unwinds like SIGINT, so that nothing is left behind.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        if by_files:
            root = _tree_with_files(clone, provenance, current_code, notes)
        elif current_code:
            notes.append(f"the repeat ran the code that lies in {clone}, not the recorded code")
            root = clone
            if is_commit_here(clone, commit):
                code += changed_code(changed_files(clone, commit, patch), parts_of(config))
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


def _tree_with_files(tree: Path, provenance: Mapping[str, Any], current_code: bool, notes: list[str]) -> Path:
    """Return `tree` if its code is what the run recorded by the hash of its files, or is to be run in any case."""
    if code_sha256(tree) == at(provenance, "code", "files_sha256"):
        notes.append(f"the run had no git history; the code in {tree} is what it recorded, by the hash of its files")
    elif current_code:
        notes.append(f"the repeat ran the code that lies in {tree}, not the recorded code")
    else:
        raise InputError(
            f"the run had no git history, and the code in {tree} is not what it recorded, by the hash of its files; "
            "run scripts/reproduce.py where that code lies, or use --current-code"
        )
    return tree


def _was_made_in(clone: Path, patch: Path) -> bool:
    known = patches_made_in(clone)
    return known is not None and (known / _sha256(patch)).is_file()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _last_step(run: RunDirectory) -> int:
    """Return the last step of which something is known that a repeat can be held against."""
    last = last_metrics(run.metrics_log)
    step = 0 if last is None else last.step
    return max(step, read_checkpoint(run.last_checkpoint)["step"]) if run.last_checkpoint.exists() else step


def _unknown_code(clone: Path, provenance: Mapping[str, Any], patch: Path | None, current_code: bool) -> str | None:
    recorded = provenance.get("code", {})
    commit = recorded.get("commit")
    if commit is None and (files := recorded.get("files_sha256")) is not None:
        return None if code_sha256(clone) == files else "the code here is another, by the hash of its files"
    if current_code and commit is None:
        return "the recorded code is not known: the run was started from no git clone"
    if current_code and not is_commit_here(clone, commit):
        return f"the recorded commit {commit} is not in this clone, so that the code may differ"
    expected = recorded.get("patch_sha256")
    if patch is None and (expected is not None or (recorded.get("dirty") and "patch_sha256" not in recorded)):
        return "the recorded code had uncommitted changes, and there is no code.patch that holds them"
    if patch is not None and expected not in (None, _sha256(patch)):
        return "code.patch is not the one that was recorded, so that the code may differ"
    return None


def _notes(
    config: ExperimentConfig,
    provenance: Mapping[str, Any],
    is_complete: bool,
    last_step: int,
    stop: int | None,
) -> list[str]:
    notes = []
    if not is_complete:
        notes.append(f"the run is not complete; what is there, up to step {last_step}, was compared")
    elif stop is not None:
        notes.append(f"only the first {stop} of {last_step} steps were compared")
    num_processes, training = at(provenance, "hardware", "num_processes") or 1, config.training
    if num_processes > 1:
        same = has_order_of_one(num_processes, training.num_microbatches or 0, training.parallel, training.reduction)
        other = "another order; for the same bits give the card's command, with torchrun, and compare the two runs"
        notes.append(
            f"{num_processes} processes shared the run, and one has repeated it, which sums gradients in "
            f"{'the same order' if same else other}"
        )
    return notes


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
