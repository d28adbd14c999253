"""Runs benchmarks and prints what was reached: `uv run python benchmarks/run.py [NAME …] [--rounds 5] [--write]`."""

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path

import checkpoint_stall
import gpu_training
import peak_memory
import scaling
import start_up
import step_time
import sweep_overhead
from measuring import REPOSITORY, Failed, Row

BENCHMARKS: dict[str, Callable[[int], list[Row]]] = {
    "tiny": step_time.perceptron,
    "vit": step_time.vit,
    "deterministic": step_time.deterministic,
    "start": start_up.first_step,
    "checkpoint": checkpoint_stall.checkpoint,
    "memory": peak_memory.memory,
    "sweep": sweep_overhead.sweep,
    "log": scaling.log_lines,
    "index": scaling.index,
    "records": scaling.sweep_records,
    "compare": scaling.compare,
    "report": scaling.report,
    "gpu": gpu_training.gpu,
}
PAGE = REPOSITORY / "docs" / "engine" / "performance.md"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Reprise against plain loops and print a table.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"any of {', '.join(BENCHMARKS)}; default: all that this machine can run",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant; default: 5")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(REPOSITORY)}")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    print(f"{conditions()}\n")
    for name in options.names or [name for name in BENCHMARKS if name != "gpu" or gpu_training.has_gpu()]:
        print(f"{name}: {options.rounds} rounds", file=sys.stderr, flush=True)
        try:
            rows = BENCHMARKS[name](options.rounds)
        except Failed as error:
            sys.exit(f"{name}: {error}")
        print(table(rows), flush=True)
        if options.write:
            write(name, f"{conditions()}; {options.rounds} rounds.\n\n{table(rows)}")


def conditions() -> str:
    """Return date, hardware and versions in one line."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "hydra-core"))
    return (
        f"{date.today()}, {models[0] if models else platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}, commit {commit or 'unknown'}"
    )


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | bare | floor | ours | measured | target | reached |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        reached = "" if row.reached is None else "yes" if row.reached else "**no**"
        lines.append(f"| {row.what} | {row.bare} | {row.floor} | {row.ours} | {row.value} | {row.target} | {reached} |")
    return "\n".join(lines) + "\n"


def write(name: str, text: str) -> None:
    """Replace what stands between the two marks of this benchmark."""
    begin, end = f"<!-- {name}: written by benchmarks/run.py -->", f"<!-- end of {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE}: expected the lines {begin!r} and {end!r}")
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
