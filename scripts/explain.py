"""Says where a config value comes from: `python scripts/explain.py KEY [experiment=base training.max_epochs=5 …]`."""

import argparse
import sys
from pathlib import Path

from reprise.cli.command_line import run_command

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main() -> None:
    if sys.argv[1:] == ["-sc", "query=bash"]:  # asked by the shell, see docs/editor.md
        from reprise.cli.completion import print_completions

        print_completions(CONFIGS)
        return
    parser = argparse.ArgumentParser(
        description="Print each file and override that sets a key, in the order in which they count: the last one "
        "holds. For a section, do so for each key in it."
    )
    parser.add_argument("key", metavar="KEY", help="such as training.learning_rate, or training")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for scripts/train.py: experiment=base …")
    options = parser.parse_args()
    from reprise.cli.explaining import explain_key

    print("\n\n".join(found.text() for found in explain_key(CONFIGS, options.key, options.overrides)))


if __name__ == "__main__":
    run_command(main)
