"""Pressing the tabulator key completes groups, options and keys, in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import TESTS

LINES = {
    "python scripts/train.py experiment=": {"experiment=base", "experiment=language_model"},
    "python scripts/train.py experiment=base training.lea": {"training.learning_rate="},
    "python scripts/train.py experiment=base training/sch": {"training/scheduler="},
    "python scripts/explain.py training.lea": {"training.learning_rate"},
    "python scripts/explain.py training.learning_rate experiment=b": {"experiment=base"},
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_groups_options_and_keys() -> None:
    script = ['eval "$(python scripts/train.py -sc install=bash)"']
    for line in LINES:
        num_words = len(line.split()) - 1
        script.append(f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={num_words} COMPREPLY=()")
        script.append('hydra_bash_completion; echo "${COMPREPLY[*]}"')
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=TESTS, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    for (line, expected), found in zip(LINES.items(), done.stdout.splitlines(), strict=True):
        assert set(found.split()) >= expected, line
