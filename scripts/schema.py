"""Writes the JSON Schema by which editors complete the arguments of your own parts: `python scripts/schema.py`.

Run it after a new `_target_` in `configs/`, or a new argument of one. `--engine` writes the schemas of the engine's own
keys and targets instead; a test compares those.
"""

import json
import sys
from pathlib import Path
from typing import Any

from reprise.cli.command_line import run_command
from reprise.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMAS = REPOSITORY / ".vscode" / "schemas"
OWN = REPOSITORY / ".vscode" / "own_targets.json"
ENGINE_CONFIGS = REPOSITORY / "src" / "reprise" / "configs"


def main() -> None:
    from reprise.config.json_schema import own_schema, schemas, targets_in

    if sys.argv[1:] == ["--engine"]:
        for name, schema in schemas(targets_in(ENGINE_CONFIGS)).items():
            write(SCHEMAS / name, schema)
    elif sys.argv[1:]:
        raise InputError(f"expected no argument, or --engine, got {' '.join(sys.argv[1:])}")
    else:
        engine = json.loads((SCHEMAS / "component.json").read_text(encoding="utf-8"))["definitions"]["arguments"]
        known = {entry["if"]["properties"]["_target_"]["const"] for entry in engine["allOf"]}
        write(OWN, own_schema(path for path in targets_in(REPOSITORY / "configs") if path not in known))


def write(path: Path, schema: dict[str, Any]) -> None:
    from reprise.files.atomic_file import write_text

    write_text(path, json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    run_command(main)
