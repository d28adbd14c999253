"""Says where a config value comes from: `python scripts/explain.py KEY [experiment=base training.max_epochs=5 …]`."""

import argparse
from pathlib import Path

from reprise.command_line import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print each file and override that sets a key, in the order in which they count: the last one "
        "holds. For a section, do so for each key in it."
    )
    parser.add_argument("key", metavar="KEY", help="such as training.learning_rate, or training")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for scripts/train.py: experiment=base …")
    options = parser.parse_args()
    from reprise.config.explaining import explain_key

    configs = Path(__file__).resolve().parents[1] / "configs"
    print("\n\n".join(found.text() for found in explain_key(configs, options.key, options.overrides)))


if __name__ == "__main__":
    run_command(main)
