import json
import os
import subprocess
import sys
import textwrap

import pytest

from reprise.files.atomic_file import atomic_file, write_json, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_written_in_the_directory_it_will_lie_in(tmp_path):
    with atomic_file(tmp_path / "file"):
        (temporary,) = os.listdir(tmp_path)
    assert temporary.startswith(".file.")
    assert temporary.endswith(".tmp")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)

    def write():
        with atomic_file(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    program = f"""
        import os, pathlib, signal
        from reprise.files.atomic_file import atomic_file
        with atomic_file(pathlib.Path({str(path)!r})) as file:
            file.write(b"half of the n")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode == -9
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_has_the_permissions_of_any_other_new_file_and_the_mask_stays(tmp_path, mask, mode, monkeypatch):
    previous = os.umask(mask)
    set_mask = os.umask
    monkeypatch.delattr(os, "umask")  # it is one for all threads
    try:
        write_text(tmp_path / "file", "text")
    finally:
        set_mask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_json_reads_back_equal_and_is_readable(tmp_path):
    value = {"name": "größer → λ", "numbers": [1, 2.5, 1e-300, 0.1 + 0.2], "none": None, "nested": {"b": 1, "a": True}}
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "größer → λ" in text
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "file.json"
    write_json(path, {"loss": 0.5})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"loss": value})
    assert json.loads(path.read_text()) == {"loss": 0.5}
    assert os.listdir(tmp_path) == ["file.json"]
