"""Scores a finished run again, and says whether that agrees with what the run recorded."""

import argparse
from collections.abc import Sequence

from reprise.runs.saved_run import load_run


def evaluate_run(arguments: Sequence[str] | None = None) -> None:
    """Print the scores of one checkpoint on one split."""
    parser = argparse.ArgumentParser(description="Score a finished run again.")
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument("--checkpoint", default="best", help="best, last or epoch_NNN (default: best)")
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that the run needs"
    )
    options = parser.parse_args(arguments)
    run = load_run(options.run_dir, options.trust)
    scored = run.evaluate(options.checkpoint, options.split)
    print(f"{options.run_dir}: checkpoint {options.checkpoint} (epoch {scored['epoch']}, step {scored['step']})")
    recorded = run.results or {}
    same_question = all(recorded.get(key) == scored[key] for key in ("checkpoint", "split", "weights_sha256"))
    for name, value in scored["metrics"].items():
        note = ""
        if same_question:
            before = recorded["metrics"].get(name)
            note = "  as recorded" if before == value else f"  recorded: {before!r}"
        print(f"  {name:<24} {value:.6g}{note}")
