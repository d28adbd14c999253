"""Puts runs side by side: `python scripts/compare.py RUN_DIR… | EXPERIMENT [--format csv] …`."""

from reprise.cli.command_line import run_command


def main() -> None:
    from reprise.tools.compare import print_comparison

    print_comparison()


if __name__ == "__main__":
    run_command(main)
