"""Writes one HTML page about many runs: `python scripts/report.py [EXPERIMENT…] [--output FILE]`."""

from reprise.cli.command_line import run_command


def main() -> None:
    from reprise.tools.report import report_runs

    report_runs()


if __name__ == "__main__":
    run_command(main)
