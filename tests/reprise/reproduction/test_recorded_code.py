"""Which files of the code here differ from those that a run recorded."""

import subprocess
from pathlib import Path

import pytest

from reprise.tools.reproduction.recorded_code import changed_files

LOCK = '[[package]]\nname = "numpy"\nversion = "2.4"\nwheels = [{ path = "numpy.whl", hash = "sha256:11" }]\n'


@pytest.mark.parametrize(
    ("lock", "changed"),
    [
        (LOCK, []),
        (LOCK.replace('path = "', 'url = "https://example.org/'), []),
        (LOCK.replace("2.4", "2.5"), ["uv.lock"]),
        (LOCK.replace("11", "22"), ["uv.lock"]),
        (None, ["uv.lock"]),
    ],
)
def test_a_lock_counts_as_changed_if_other_files_would_be_installed(
    lock: str | None, changed: list[str], tmp_path: Path
) -> None:
    (tmp_path / "uv.lock").write_text(LOCK)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    if lock is None:
        (tmp_path / "uv.lock").unlink()
    else:
        (tmp_path / "uv.lock").write_text(lock)
    assert changed_files(tmp_path, commit, None) == changed
