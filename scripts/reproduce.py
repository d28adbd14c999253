"""Trains a run again from its directory alone and compares: `python scripts/reproduce.py RUN_DIR [--steps N] …`."""

import argparse

from reprise.cli.command_line import run_command
from reprise.errors import Different


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train a run again with its recorded code, compare the two to the bit, and explain a difference. "
        "Exit code 0: bit-identical; 3: not. It runs the code that the run directory brings along (code.patch), if "
        "that was made in this clone."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument("--current-code", action="store_true", help="run the code that lies here, not the recorded one")
    parser.add_argument("--steps", type=int, metavar="N", help="compare only the first N optimizer steps")
    parser.add_argument("--keep", action="store_true", help="leave the repeated run on disk, and say where")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that the run needs"
    )
    parser.add_argument(
        "--trust-code", action="store_true", help="run code.patch although it was not made in this clone"
    )
    options = parser.parse_args()
    from reprise.tools.reproduction.repeat import reproduce

    verdict = reproduce(
        options.run_dir,
        current_code=options.current_code,
        steps=options.steps,
        trusted_packages=options.trust,
        keep=options.keep,
        trust_code=options.trust_code,
    )
    print(verdict.text())
    if not verdict.is_identical:
        raise Different


if __name__ == "__main__":
    run_command(main)
