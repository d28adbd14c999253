"""Puts finished runs side by side: what differs between their configs, their figures over seeds, and pairs of variants.

Only small JSON files are read, and torch is not imported.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from reprise.errors import InputError
from reprise.files.atomic_file import write_text
from reprise.text.tables import as_csv, as_latex, as_markdown, as_text
from reprise.tools.compare.comparison import Comparison, Mode, Pair, compare_variants
from reprise.tools.compare.runs import read_runs
from reprise.tools.compare.tables import document, pair_rows, run_rows, variant_rows

__all__ = ["compare_runs", "print_comparison"]

_SUFFIXES = {".txt": "table", ".csv": "csv", ".md": "markdown", ".tex": "latex"}


def compare_runs(
    *names: str | Path, output_dir: str | Path = "outputs", metric: str | None = None, mode: Mode | None = None
) -> Comparison:
    """Return the variants among the runs of these directories and experiments, the best first.

    Runs that are equal in all but the seed are one variant. `metric` decides the order, without it the twin of
    `training.monitor` among the final figures; `mode` says whether `min` or `max` is better where that is not known.
    What cannot be read is named on stderr and left out.

    Raises:
        InputError: if there is no such run or metric.
    """
    runs, warnings = read_runs([str(name) for name in names], output_dir)
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    return compare_variants(runs, metric, mode)


def print_comparison(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison that the command line asks for.

    Raises:
        InputError: if there is nothing to compare, or the comparison cannot be written.
    """
    parser = argparse.ArgumentParser(
        description="Put runs side by side: the config keys that differ, and each metric's mean and standard deviation "
        "over seeds. Two variants are also compared seed by seed."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR | EXPERIMENT", help="run directories, names of experiments")
    parser.add_argument("--metric", metavar="NAME", help="sort by this one; without it, by what training.monitor names")
    parser.add_argument("--mode", choices=("min", "max"), help="whether a low or a high value of it is better")
    parser.add_argument("--pair", nargs=2, metavar=("A", "B"), help="compare these two variants, by their labels")
    parser.add_argument("--runs", action="store_true", dest="lists_runs", help="list every run with its figures")
    parser.add_argument("--format", choices=tuple(_SUFFIXES.values()), help="without it, by FILE's suffix, or table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file: .csv, .md, .tex, .txt")
    parser.add_argument("--output-dir", default="outputs", metavar="DIR", help="where experiments/ lies (outputs)")
    options = parser.parse_args(arguments)
    comparison = compare_runs(*options.runs, output_dir=options.output_dir, metric=options.metric, mode=options.mode)
    pair = comparison.pair(*options.pair) if options.pair else None
    format_ = options.format or _SUFFIXES.get(options.output.suffix if options.output else "", "table")
    text = _rendered(comparison, pair, format_, lists_runs=options.lists_runs, is_file=options.output is not None)
    if options.output is None:
        print(text, end="")
        return
    try:
        write_text(options.output, text)
    except OSError as error:
        raise InputError(f"--output: {options.output} cannot be written: {error.strerror}") from None
    print(options.output)


def _rendered(comparison: Comparison, pair: Pair | None, format_: str, *, lists_runs: bool, is_file: bool) -> str:
    if format_ == "csv":  # one table, so that it can be read back
        if pair is not None:
            return as_csv(pair_rows(pair, comparison))
        return as_csv(run_rows(comparison) if lists_runs else variant_rows(comparison))
    if pair is None and len(comparison.variants) == 2:
        pair = Pair(*comparison.variants)
    blocks = document(comparison, pair, lists_runs=lists_runs)
    if format_ == "markdown":
        return as_markdown(blocks)
    if format_ == "latex":
        return as_latex(blocks)
    is_terminal = sys.stdout.isatty() and not is_file
    return as_text(blocks, shutil.get_terminal_size().columns if is_terminal else None)
