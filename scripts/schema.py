"""Writes the JSON Schemas by which editors complete and check `configs/`: `python scripts/schema.py`.

Run it after a change to the schema, or to a target that a file in `configs/` names; a test compares.
"""

import json
from pathlib import Path

from reprise.cli.command_line import run_command

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    from reprise.config.json_schema import schemas
    from reprise.files.atomic_file import write_text

    for name, schema in schemas(REPOSITORY / "configs").items():
        path = REPOSITORY / ".vscode" / "schemas" / name
        write_text(path, json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
        print(path)


if __name__ == "__main__":
    run_command(main)
