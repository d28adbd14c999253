"""Makes this clone a project of one's own: `python scripts/adopt.py NAME [--keep EXAMPLE] [--license ID] …`."""

import argparse
import sys
from pathlib import Path

from reprise.cli.command_line import run_command
from reprise.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Give the clone a name, author, licence, README, changelog and citation of its own, and remove the "
        "worked examples. It shows what it will do and asks. docs/start-a-project.md tells the rest."
    )
    parser.add_argument(
        "name", metavar="NAME", help="of the project, such as tumour-lab; the package is src/tumour_lab"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="EXAMPLE",
        help="a worked example that stays: digits, text_classification or language_model; may be given again",
    )
    parser.add_argument("--author", metavar='"NAME <ADDRESS>"', help="default: user.name and user.email of git")
    parser.add_argument("--license", metavar="ID", help="SPDX identifier, such as MIT; default: none chosen")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args()
    from reprise.tools.ownership.adopting import plan_adoption

    root = Path(__file__).resolve().parents[1]
    adoption = plan_adoption(root, options.name, keep=options.keep, author=options.author, license_id=options.license)
    print(adoption.text())
    if not options.yes:
        if not sys.stdin.isatty():
            raise InputError("--yes: nobody can be asked here; give it to go on")
        if input("\nGo on? [y/N] ").strip().lower() not in ("y", "yes"):
            raise InputError("Nothing was changed.")
    adoption.carry_out()
    print(
        "\nDone. Look at it with `git status`, run `uv run --group dev pytest -n auto`, then commit it: "
        "git add --all && git commit"
    )


if __name__ == "__main__":
    run_command(main)
