"""Carries on a run, perhaps with changes: `python scripts/resume.py RUN_DIR [training.max_epochs=20 …]`."""

import argparse

from reprise.cli.command_line import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description="Carry on a run from its own saved config.")
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what to change; it is recorded")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package outside src/ that the run needs"
    )
    options = parser.parse_args()
    from reprise.cli.resuming import resume
    from reprise.runs.products import refuse_missing

    print(run_dir := resume(options.run_dir, options.overrides, options.trust))
    refuse_missing(run_dir)


if __name__ == "__main__":
    run_command(main, is_shared=True)
