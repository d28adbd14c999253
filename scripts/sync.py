"""Sends to the trackers of a run what they have missed: `python scripts/sync.py RUN_DIR`."""

from reprise.cli.command_line import run_command


def main() -> None:
    from reprise.tools.sync import sync_run

    sync_run()


if __name__ == "__main__":
    run_command(main)
