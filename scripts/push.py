"""Uploads a run to the Hugging Face Hub, after showing what: `python scripts/push.py RUN_DIR NAME/REPOSITORY`."""

from reprise.cli.command_line import run_command


def main() -> None:
    from reprise.tools.sharing import push_run

    push_run()


if __name__ == "__main__":
    run_command(main)
