"""Prints the reproducibility checklist of a run: `python scripts/audit.py RUN_DIR`."""

from reprise.cli.command_line import run_command


def main() -> None:
    from reprise.tools.checklist.audit import audit_run

    audit_run()


if __name__ == "__main__":
    run_command(main)
