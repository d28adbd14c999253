"""A summary says what there is to say, whatever the jobs of a sweep came to."""

import csv
import json
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

from reprise.runs.sweep_directory import SweepDirectory, create_or_open_sweep
from reprise.tools.sweep.documents import console_text, write_summary

MONITOR = {"metric": "val/loss", "mode": "min", "value": 0.5}


def sweep_of(path: Path, *jobs: dict[str, Any]) -> SweepDirectory:
    """Return a sweep with a record for each of these jobs, which differ in rate and seed."""
    directory = create_or_open_sweep(path, "base", "s")
    for number, job in enumerate(jobs):
        overrides = [f"training.learning_rate={number // 2}", f"seed={number % 2}"]
        outcome = {"run_id": f"s-{number}", "overrides": overrides, "status": "completed", "reason": None}
        outcome |= {"traceback": None, "run_dir": None, "monitor": MONITOR, "metrics": {}, "ended": "-"} | job
        directory.record(f"s-{number}").write_text(json.dumps(outcome))
    return directory


FAILED = {"status": "failed", "reason": "OutOfMemoryError: 8 | 9", "traceback": "Traceback …", "monitor": None}
SCORED = {"metrics": {"val/loss": 0.5, "test/loss": 0.25}}


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([], "0 jobs"),
        ([FAILED, FAILED], "2 jobs: 2 failed."),
        (
            [{"status": "interrupted", "reason": "by SIGTERM", "monitor": None}, FAILED],
            "2 jobs: 1 interrupted, 1 failed.",
        ),
        ([{}], "1 job: 1 completed. Sorted by val/loss, lowest first."),
        ([{"monitor": None}], "1 job: 1 completed."),
        ([{"monitor": MONITOR | {"value": None}}], "1 job: 1 completed. Sorted by val/loss, lowest first."),
        ([SCORED, SCORED], "2 jobs: 2 completed. Sorted by test/loss, lowest first."),
        ([SCORED, FAILED, {}, SCORED], "4 jobs: 3 completed, 1 failed. Sorted by test/loss, lowest first."),
        ([SCORED, {"metrics": {"val/accuracy": 1.0, "test/f1": 0.0}}], "2 jobs: 2 completed. Sorted by test/loss"),
    ],
)
def test_metrics_may_be_missing(tmp_path: Path, jobs: list[dict[str, Any]], sentence: str) -> None:
    directory = sweep_of(tmp_path, *jobs)
    summary = write_summary(directory)
    page = directory.summary_markdown.read_text()
    assert sentence in page
    assert sentence in console_text(summary)
    with directory.summary_csv.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(jobs)
    assert len(json.loads(directory.summary.read_text())["jobs"]) == len(jobs)
    xml.etree.ElementTree.parse(directory.summary_plot)
    assert page.count("Traceback …") == (FAILED in jobs)


def test_jobs_that_did_not_come_to_a_metric_do_not_count_in_its_mean(tmp_path: Path) -> None:
    write_summary(directory := sweep_of(tmp_path, SCORED, FAILED, {"metrics": {"test/loss": 0.5}}, {}))
    groups = json.loads(directory.summary.read_text())["groups"]
    assert [group["metrics"]["test/loss"]["num"] for group in groups] == [1, 1]
    assert [
        row.split("|")[2].strip()
        for row in directory.summary_markdown.read_text().splitlines()
        if row.startswith(("| 0 ", "| 1 "))
    ] == ["1 of 2", "2"]
