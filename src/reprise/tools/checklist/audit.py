"""Prints the reproducibility checklist of a run: what its files show, and what takes more than its files to judge."""

import argparse
import subprocess
from collections.abc import Sequence

from reprise import __version__
from reprise.config import ExperimentConfig
from reprise.config.components import check_components
from reprise.errors import CheckFailed, CheckNotApplicable, Different
from reprise.files.json_file import read_object
from reprise.files.json_values import mapping_at, text_at
from reprise.runs.code_files import code_sha256, tree_of_code
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.text.numbers import count
from reprise.tools.checklist import Check, check_run, judge
from reprise.tools.model_card import model_card_text
from reprise.tools.reproduction.recorded_code import changed_files, find_clone, is_commit_here

_MARKS = {"passed": "passed", "failed": "FAILED", "not applicable": "-"}


def audit_run(arguments: Sequence[str] | None = None) -> None:
    """Print the checklist of a run.

    Raises:
        InputError: if there is no run.
        Different: if a line failed.
    """
    parser = argparse.ArgumentParser(description="Check what a run needs to be reproducible.")
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that the run needs"
    )
    options = parser.parse_args(arguments)
    checks = audit(open_run(options.run_dir), options.trust)
    width = max(len(check.title) for check in checks)
    for check in checks:
        print(f"{_MARKS[check.verdict]:<6}  {check.title:<{width}}  {check.evidence}")
    num_failed = sum(check.verdict == "failed" for check in checks)
    print()
    if num_failed:
        raise Different(f"{options.run_dir}: {num_failed} of {len(checks)} checks failed")
    print(f"{options.run_dir}: no check failed; the proof is scripts/reproduce.py")


def audit(run: RunDirectory, trusted_packages: Sequence[str] = ()) -> list[Check]:
    """Return the checklist that the card carries, and the lines that the card cannot carry.

    `trusted_packages`: packages beyond those under `src/` that the run's parts may be imported from.
    """
    checks = check_run(run)
    return [
        *checks,
        judge("Code and parts at hand", lambda: _at_hand(run, trusted_packages), run),
        judge("Model card", lambda: _model_card(run, checks), run),
    ]


def _at_hand(run: RunDirectory, trusted_packages: Sequence[str]) -> str:
    values = ExperimentConfig.load(run.config).to_dict() | {"trusted_packages": list(trusted_packages)}
    problems = check_components(values)
    if problems:
        raise CheckFailed(f"The code here cannot build `{problems[0].key}`: {problems[0].message}")
    code = mapping_at(read_object(run.provenance), "code")
    commit, files_sha256 = text_at(code, "commit"), text_at(code, "files_sha256")
    if commit is None and files_sha256 is not None:
        if code_sha256(tree_of_code()) != files_sha256:
            raise CheckFailed(f"The code here is another than `{files_sha256[:12]}`, by the hash of its files.")
        return "It is the code here, by the hash of its files; all parts of the config can be imported."
    clone = find_clone()
    if commit is None or not is_commit_here(clone, commit):
        raise CheckFailed(f"The commit {'' if commit is None else f'`{commit[:12]}` '}is not in this clone.")
    try:
        changed = changed_files(clone, commit, run.code_patch if run.code_patch.exists() else None)
    except subprocess.SubprocessError as error:
        raise CheckFailed(f"git cannot tell: {error}") from None
    here = f"the code here differs from it in {count(len(changed), 'file')}" if changed else "it is the code here"
    return f"The commit is in this clone, and {here}; all parts of the config can be imported."


def _model_card(run: RunDirectory, checks: Sequence[Check]) -> str:
    try:
        there = run.model_card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CheckFailed("There is no `model_card.md`.") from None
    if there != model_card_text(run, checks):
        recorded = text_at(read_object(run.provenance), "code", "reprise")
        if recorded != __version__:
            by = "a version of the engine that did not record its number" if recorded is None else f"version {recorded}"
            raise CheckNotApplicable(f"`model_card.md` was written by {by}; version {__version__} writes another text.")
        raise CheckFailed("`model_card.md` is not what the files give now.")
    return "`model_card.md` is what the files give now, to the byte."
