"""What a platform that is not supported says."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import REPOSITORY


@pytest.mark.parametrize("script", ["train.py", "adopt.py"])
def test_windows_is_answered_with_one_message_that_names_wsl(script: str, tmp_path: Path) -> None:
    path = REPOSITORY / "scripts" / script
    code = f"import runpy, sys; sys.platform = 'win32'; runpy.run_path({str(path)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Windows is not supported; in WSL")
    assert (done.stdout, done.stderr.count("\n"), list(tmp_path.iterdir())) == ("", 1, [])
