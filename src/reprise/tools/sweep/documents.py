"""Writes what a sweep came to: for people, papers, spreadsheets and programs."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reprise.files.atomic_file import write_json, write_text
from reprise.runs.sweep_directory import PRUNED, SweepDirectory
from reprise.text import markdown
from reprise.text.numbers import count, interval
from reprise.text.tables import Block, TableBlock, as_csv, as_latex, as_markdown, as_text
from reprise.tools.compare.tables import single_figures, spread
from reprise.tools.statistics import MeanInterval
from reprise.tools.sweep.plot import plot
from reprise.tools.sweep.summary import Job, JobGroup, Summary, summarize
from reprise.tools.variants import REPETITION_KEYS

_NOTHING = "–"
_LONG_NUMBER = re.compile(r"-?\d*\.\d{8,}(e[-+]?\d+)?")
_MOST_ROWS = 20
"""On the console; the files have all."""
_REPEATED = {"seed": "seeds", "data.fold": "folds"}


def write_summary(directory: SweepDirectory) -> Summary:
    """Write all that can be said from the records of a sweep, and return it."""
    summary = summarize(directory)
    write_json(directory.summary, summary.to_dict())
    write_text(directory.summary_csv, as_csv([_csv_row(job, summary) for job in summary.jobs]))
    write_text(directory.summary_latex, as_latex([_settings(summary)]))
    write_text(directory.summary_plot, plot(summary))
    write_text(directory.summary_markdown, _page(summary, directory))
    return summary


def console_text(summary: Summary, width: int | None = None) -> str:
    """Return the better settings and the jobs that failed, for a terminal of `width` columns."""
    blocks: list[Block] = []
    if summary.metric is not None:
        table = _settings(summary)
        left = len(table.rows) - _MOST_ROWS
        blocks.append(TableBlock("", table.header, table.rows[:_MOST_ROWS], table.alignment))
        blocks += [f"And {left:,} more."] if left > 0 else []
    if len(summary.searched_for) > 1:
        blocks.append(_trade_offs(summary))
    for jobs in _failures(summary)[:_MOST_ROWS]:
        others = f" and {count(len(jobs) - 1, 'other')}" if len(jobs) > 1 else ""
        blocks.append(f"failed: {_told(jobs[0], summary)}{others}: {jobs[0].outcome['reason']}")
    return as_text([*blocks, _sentence(summary)], width)


def _sentence(summary: Summary) -> str:
    parts = [count(len(summary.jobs), "job"), *(f"{number:,} {status}" for status, number in summary.num_jobs.items())]
    sentence = f"{parts[0]}: {', '.join(parts[1:])}."
    if summary.metric is not None:
        best = "lowest" if summary.mode == "min" else "highest"
        sentence += f" Sorted by {summary.metric}, {best} first."
        if _are_repeated(summary):
            over = " and ".join(_REPEATED[key] for key in REPETITION_KEYS if key in summary.keys) or "seeds"
            sentence += f" ± is the standard deviation over {over} (n − 1)."
    return sentence


def _page(summary: Summary, directory: SweepDirectory) -> str:
    parts = [
        f"# Sweep {markdown.code(summary.sweep_id)} of {markdown.code(summary.experiment_name)}",
        as_markdown([_sentence(summary), _settings(summary)]).rstrip(),
    ]
    if summary.metric is not None:
        parts.append(f"![{markdown.escape(summary.metric)} by setting]({directory.summary_plot.name})")
    if summary.metric is not None and _are_repeated(summary):
        parts.append(
            "The interval is the 95 % interval of the mean (Student's t); it takes the values of one setting to be "
            "normally distributed, and says nothing where n is 1."
        )
    if summary.metric is not None and summary.metric != summary.monitor:
        parts.append(
            f"The order is that of the test split. To choose a setting, go by {markdown.code(summary.monitor)}: what "
            "is chosen by its score on the test split has no unbiased score left."
        )
    if len(summary.searched_for) > 1:
        parts += ["## Trade-offs", as_markdown([_trade_offs(summary)]).rstrip()]
    parts += ["## Jobs", as_markdown([_jobs(summary)]).rstrip()]
    if failures := _failures(summary):
        parts.append("## Failures")
    for jobs in failures:
        reason, trace = jobs[0].outcome["reason"], jobs[0].outcome["traceback"]
        parts.append(f"### {markdown.escape(reason)}")
        parts.append(
            markdown.bullets(
                [markdown.filled("{}: {}", markdown.code(j.run_id), markdown.code(_told(j, summary))) for j in jobs]
            )
        )
        parts += [markdown.fenced(trace)] if trace is not None else []
    return "\n\n".join(parts) + "\n"


def _settings(summary: Summary) -> TableBlock:
    """Return the table of settings, with what the order is by, the test split's metrics, and the monitor."""
    keys = [key for key in summary.keys if key not in REPETITION_KEYS]
    metrics = [
        name for name in summary.metrics if name in (summary.metric, summary.monitor) or name.startswith("test/")
    ]
    are_repeated = _are_repeated(summary)
    header = [*keys, "n"] if are_repeated else list(keys)
    for name in metrics:
        header += [name, "95 % interval"] if name == summary.metric and are_repeated else [name]
    rows = []
    for setting in summary.settings:
        if all(job.status == PRUNED for job in setting.jobs):
            continue  # half a run has no place beside whole ones
        row = [_short(setting.overrides.get(key, _NOTHING)) for key in keys]
        row += [_number(setting)] if are_repeated else []
        for name in metrics:
            values = setting.interval(name)
            row.append(spread(values, name, num_expected=len(setting.completed)))
            if name == summary.metric and are_repeated:
                row.append(_bounds(values, name))
        rows.append(row)
    return TableBlock("", header, rows, "l" * len(keys) + "r" * (len(header) - len(keys)))


def _are_repeated(summary: Summary) -> bool:
    """Return whether figures are means over jobs; a trial of a search stands for itself."""
    return not summary.searched_for or any(len(setting.jobs) > 1 for setting in summary.settings)


def _trade_offs(summary: Summary) -> TableBlock:
    """Return the jobs that a search for several metrics came to."""
    metrics = ", ".join(f"{name} ({mode})" for name, mode in summary.searched_for.items())
    title = f"No other job is better in one of these and as good in the rest: {metrics}"
    return _table(title, summary.best, summary.keys, summary.searched_for)


def _jobs(summary: Summary) -> TableBlock:
    return _table("", summary.jobs, summary.keys, summary.metrics)


def _table(title: str, jobs: Iterable[Job], keys: Collection[str], metrics: Collection[str]) -> TableBlock:
    rows = [
        [
            job.run_id,
            *(_short(job.overrides.get(key, _NOTHING)) for key in keys),
            job.status,
            *single_figures(job.metrics, metrics),
        ]
        for job in jobs
    ]
    return TableBlock(title, ["run", *keys, "status", *metrics], rows, "l" * (2 + len(keys)) + "r" * len(metrics))


def _failures(summary: Summary) -> list[list[Job]]:
    """Return the jobs that failed, those together that failed alike."""
    alike: dict[tuple[str, str], list[Job]] = {}
    for job in summary.jobs:
        if job.status == "failed":
            alike.setdefault((job.outcome["reason"], job.outcome["traceback"]), []).append(job)
    return list(alike.values())


def _csv_row(job: Job, summary: Summary) -> Mapping[str, Any]:
    return {
        "run_id": job.run_id,
        "status": job.status,
        "reason": job.outcome["reason"],
        **{key: job.overrides.get(key) for key in summary.keys},
        **{name: job.metrics.get(name) for name in summary.metrics},
        "overrides": " ".join(job.outcome["overrides"]),
    }


def _told(job: Job, summary: Summary) -> str:
    """Return in what a job differs from the others."""
    return " ".join(f"{key}={job.overrides[key]}" for key in summary.keys if key in job.overrides) or "the only job"


def _short(value: str) -> str:
    """Return a value as typed; with four digits what a search drew with seventeen."""
    return f"{float(value):.4g}" if _LONG_NUMBER.fullmatch(value) else value


def _number(setting: JobGroup) -> str:
    num, total = len(setting.completed), len(setting.jobs)
    return f"{num:,}" if num == total else f"{num:,} of {total:,}"


def _bounds(values: MeanInterval | None, name: str) -> str:
    if values is None or values.low is None or values.high is None:
        return _NOTHING
    return interval(name, (values.low, values.high))
