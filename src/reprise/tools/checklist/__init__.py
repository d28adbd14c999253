"""The reproducibility checklist of a run, judged from the files of its directory and from nothing else.

So the same files give the same list, wherever they lie and whenever it is made. Nothing is judged that is still to be
written when the model card is, which carries the list: the card itself, and how the last attempt ended.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from reprise.errors import CheckFailed, CheckNotApplicable, InputError
from reprise.runs.run_directory import RunDirectory
from reprise.tools.checklist import conditions, products, settings
from reprise.tools.checklist.files import RunFiles

_CHECKS: dict[str, Callable[[RunFiles], str]] = {
    "Seeds set and documented": conditions.check_seeds,
    "Config saved": conditions.check_config,
    "Config in force": settings.check_settings,
    "Best and last checkpoints": products.check_checkpoints,
    "Metrics logged": products.check_metrics,
    "Results of the best checkpoint": products.check_results,
    "Code recorded": conditions.check_code,
    "Packages as locked": conditions.check_packages,
    "Data and initial weights fingerprinted": conditions.check_fingerprints,
    "Deterministic": conditions.check_determinism,
    "Reproducible from the config": conditions.check_repeatable,
}

Verdict = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One line of the list."""

    title: str
    verdict: Verdict
    evidence: str
    """One sentence, in which `code` may stand."""


def check_run(run: RunDirectory) -> list[Check]:
    """Return what the files of a run show."""
    files = RunFiles(run)
    return [judge(title, partial(check, files), run) for title, check in _CHECKS.items()]


def judge(title: str, check: Callable[[], str], run: RunDirectory) -> Check:
    """Return the line that a check makes: with what it returns as evidence, or with what it raises."""
    try:
        return Check(title, "passed", check())
    except CheckNotApplicable as reason:
        return Check(title, "not applicable", str(reason))
    except (CheckFailed, InputError) as error:
        # The same wherever the run lies.
        return Check(title, "failed", str(error).replace(f"{run.path}/", ""))
