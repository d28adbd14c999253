"""Takes a newer engine from the template: `python scripts/update.py [--from REMOTE] [--to REF] [--dry-run]`."""

import argparse
from pathlib import Path

from reprise.cli.command_line import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Replace the engine's half of an adopted project by that of another version of the template. What "
        "is yours stays. docs/start-a-project.md says which files are whose."
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="REMOTE_OR_PATH",
        help="the template; default: git's remote `template`, or where the clone came from",
    )
    parser.add_argument("--to", metavar="REF", help="a branch, tag or commit; default: the template's main branch")
    parser.add_argument("--dry-run", action="store_true", help="say what would change and be lost, and change nothing")
    parser.add_argument(
        "--overwrite-edits", action="store_true", help="replace files of the engine that were edited here"
    )
    options = parser.parse_args()
    from reprise.tools.ownership.updating import plan_update

    update = plan_update(Path(__file__).resolve().parents[1], options.source, options.to)
    print(update.text())
    if options.dry_run or not update.target:
        return
    if not options.overwrite_edits:
        update.refuse_losses()
    print(f"\n{update.carry_out()}")


if __name__ == "__main__":
    run_command(main)
