"""Scores a finished run again: `python scripts/evaluate.py RUN_DIR [--checkpoint best] [--split test]`."""

from reprise.cli.command_line import run_command
from reprise.tools.evaluate import evaluate_run

if __name__ == "__main__":
    run_command(evaluate_run)
