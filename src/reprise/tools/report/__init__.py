"""Writes one HTML page about many runs: tables, learning curves, configs side by side, confusion matrices and cards.

The page holds all it needs, and a policy that keeps a browser from loading or running anything else.
"""

import argparse
import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.errors import InputError
from reprise.files.atomic_file import write_text
from reprise.tools.compare.comparison import Mode, compare_variants
from reprise.tools.compare.runs import experiment_names, read_runs
from reprise.tools.report.contents import contents

__all__ = ["report_runs", "write_report"]

_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("dom", "table", "chart", "curves", "card", "side_by_side", "main")


def write_report(
    *names: str | Path,
    output_path: str | Path,
    output_dir: str | Path = "outputs",
    metric: str | None = None,
    mode: Mode | None = None,
) -> Path:
    """Write a page about the runs of these directories and experiments, all experiments if there are none; return it.

    `metric` and `mode` decide which runs are the best, as in `reprise.tools.compare.compare_runs`. The same files
    give the same bytes.

    Raises:
        InputError: if there is no such run or metric, or the page cannot be written.
    """
    wanted = [str(name) for name in names] or experiment_names(output_dir)
    runs, warnings = read_runs(wanted, output_dir)
    title = f"Runs of {', '.join(wanted)}" if len(wanted) < 5 else f"Runs of {wanted[0]} and {len(wanted) - 1} more"
    text = page(contents(compare_variants(runs, metric, mode), title, warnings))
    try:
        write_text(Path(output_path), text)
    except OSError as error:
        raise InputError(f"--output: {output_path} cannot be written: {error.strerror}") from None
    return Path(output_path)


def page(data: Mapping[str, Any]) -> str:
    """Return the HTML page that shows `data`, as `reprise.tools.report.contents` makes it."""
    style = (_PAGE / "style.css").read_text(encoding="utf-8")
    script = "\n".join((_PAGE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{script}}})();'
    parts = {"style": style, "script": script, "data": _json(data)}
    parts |= {f"{name}_hash": _hash(parts[name]) for name in ("style", "script")}
    template = (_PAGE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def report_runs(arguments: Sequence[str] | None = None) -> None:
    """Write the report that the command line asks for, and print its path.

    Raises:
        InputError: if there is nothing to report, or the page cannot be written.
    """
    parser = argparse.ArgumentParser(
        description="Write one HTML page about many runs, to be opened in a browser: no server and no network needed."
    )
    parser.add_argument(
        "runs", nargs="*", metavar="EXPERIMENT | RUN_DIR", help="names of experiments, run directories; none: all"
    )
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)")
    parser.add_argument("--metric", metavar="NAME", help="what the best run is best at; else by training.monitor")
    parser.add_argument("--mode", choices=("min", "max"), help="whether a low or a high value of it is better")
    parser.add_argument("--output-dir", default="outputs", metavar="DIR", help="where experiments/ lies (outputs)")
    options = parser.parse_args(arguments)
    print(
        write_report(
            *options.runs,
            output_path=options.output,
            output_dir=options.output_dir,
            metric=options.metric,
            mode=options.mode,
        )
    )


def _json(data: Mapping[str, Any]) -> str:
    """Return JSON that no element around it can be ended in: of `<` there is none, and half characters are replaced."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").encode("utf-8", "replace").decode()


def _hash(text: str) -> str:
    """Return the source expression by which a Content-Security-Policy admits an inline element with this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
