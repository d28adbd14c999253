import collections
import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import textwrap

import pytest

from reprise import create_experiment_dir
from reprise.errors import ConfigError, InputError
from reprise.runs.attempt_record import begin_attempt, end_attempt, resume_attempt_from
from reprise.runs.run_directory import RunDirectory, find_run, open_run

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../escaped",
    "a/b",
    "/tmp/escaped",
    "a\\b",
    ".hidden",
    "-rf",
    "a\nb",
    "a\0b",
    "a b",
    "ends.",
    "x" * 129,
    "é",
    "$HOME",
    "a;b",
    "*",
]


@pytest.fixture
def run(tmp_path):
    return RunDirectory(create_experiment_dir(tmp_path, "pets", "one"))


def start(program: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_lies_under_its_experiment_with_its_folders(tmp_path):
    path = create_experiment_dir(str(tmp_path), "pets", "one")
    assert path == tmp_path / "experiments" / "pets" / "one"
    assert sorted(p.name for p in path.iterdir()) == ["checkpoints", "logs", "results"]


def test_the_files_of_a_run_are_those_of_the_contract(run):
    files = {
        run.config: "config.json",
        run.provenance: "provenance.json",
        run.status: "status.json",
        run.best_checkpoint: "checkpoints/best.pt",
        run.last_checkpoint: "checkpoints/last.pt",
        run.epoch_checkpoint(5): "checkpoints/epoch_005.pt",
        run.train_log: "logs/train.log",
        run.metrics_log: "logs/metrics.jsonl",
        run.tensorboard: "logs/tensorboard",
        run.predictions: "results/predictions.json",
        run.metrics: "results/metrics.json",
        run.model_card: "model_card.md",
        run.export: "export",
        run.hydra: ".hydra",
    }
    assert {str(path.relative_to(run.path)) for path in files} == set(files.values())
    assert all(path == run.path / name for path, name in files.items())


def test_a_run_without_a_name_is_named_after_the_second_of_its_start(tmp_path):
    assert re.fullmatch(r"\d{8}_\d{6}_[0-9a-f]+", create_experiment_dir(tmp_path, "pets").name)


def test_many_runs_that_start_in_one_second_in_several_processes_have_a_directory_each(tmp_path):
    num_processes, num_runs = 4, 100
    program = """
        import sys
        from reprise.runs.run_directory import create_experiment_dir
        sys.stdin.readline()
        for _ in range(int(sys.argv[2])):
            print(create_experiment_dir(sys.argv[1], "pets"))
    """
    processes = [start(program, tmp_path, num_runs) for _ in range(num_processes)]
    outputs = [process.communicate("go\n")[0].split() for process in processes]
    paths = [path for output in outputs for path in output]
    assert len(set(paths)) == len(paths) == num_processes * num_runs
    assert sorted(paths) == sorted(map(str, (tmp_path / "experiments" / "pets").iterdir()))
    seconds = collections.Counter(path[: -len("_0000")] for path in paths)
    assert max(seconds.values()) > num_runs


def test_a_run_that_exists_is_never_created_again(run, tmp_path):
    run.config.write_text("kept")
    with pytest.raises(FileExistsError):
        create_experiment_dir(tmp_path, "pets", "one")
    assert run.config.read_text() == "kept"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_could_hide_or_lead_elsewhere_is_refused_and_nothing_is_created(tmp_path, name):
    base = tmp_path / "outputs"
    with pytest.raises(ConfigError, match="run_id: expected at most 128 letters"):
        create_experiment_dir(base, "pets", name)
    with pytest.raises(ConfigError, match="experiment_name: expected at most 128 letters"):
        create_experiment_dir(base, name, "one")
    with pytest.raises(ConfigError):
        find_run(base, "pets", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "20261120_101500_ab12", "lr=0.1,seed=3", "v1.2+fix-3", "x" * 128])
def test_names_that_people_use_are_taken(tmp_path, name):
    assert create_experiment_dir(tmp_path, name, name) == find_run(tmp_path, name, name)


@pytest.mark.parametrize("name", ["../config", "/etc/passwd", "..", "", "none"])
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(run, name):
    (run.path / "config.pt").touch()
    for there in (run.best_checkpoint, run.epoch_checkpoint(5)):
        there.touch()
    with pytest.raises(InputError, match="there are: best, epoch_005"):
        run.checkpoint(name)


def test_a_checkpoint_is_found_with_and_without_its_ending(run):
    run.best_checkpoint.touch()
    assert run.checkpoint("best") == run.checkpoint("best.pt") == run.best_checkpoint


def test_the_lock_lets_in_exactly_one_process_and_names_it(run):
    holder = """
        import sys
        from reprise.runs.attempt_record import begin_attempt
        from reprise.runs.run_directory import RunDirectory
        run = RunDirectory(sys.argv[1])
        with run.locked():
            begin_attempt(run)
            print("in", flush=True)
            sys.stdin.readline()
    """
    process = start(holder, run.path)
    assert process.stdout.readline() == "in\n"
    try:
        with pytest.raises(InputError, match=rf"in use by process {process.pid} on {os.uname().nodename} since 20"):
            run.locked().__enter__()
    finally:
        process.kill()  # the operating system takes the lock back
        process.communicate()
    with run.locked(), pytest.raises(InputError, match="in use"), run.locked():
        pass
    with run.locked():
        pass


def test_of_many_processes_that_want_the_lock_at_once_one_gets_it(run):
    program = """
        import sys
        from reprise.errors import InputError
        from reprise.runs.run_directory import RunDirectory
        sys.stdin.readline()
        try:
            with RunDirectory(sys.argv[1]).locked():
                print("in", flush=True)
                sys.stdin.readline()
        except InputError:
            print("refused", flush=True)
    """
    processes = [start(program, run.path) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.stdout.readline() for process in processes)
    for process in processes:
        process.communicate("leave\n")
    assert answers == ["in\n", "refused\n", "refused\n", "refused\n"]


def test_a_lock_of_a_dead_process_is_taken_over_and_none_is_left(run):
    run.lock.write_text('{"host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00"}\n')
    with run.locked():
        assert json.loads(run.lock.read_text())["pid"] == os.getpid()
    assert not run.lock.exists()


def test_a_lock_that_is_a_link_leads_nowhere(run, tmp_path):
    (tmp_path / "outside").write_text("mine")
    run.lock.symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic link"), run.locked():
        pass
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.fixture
def no_locks(monkeypatch):
    """Have the file system refuse to lock, as some that are shared do."""

    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_where_the_file_system_knows_no_locks_one_process_gets_in_as_well(run, no_locks):
    with (
        run.locked(),
        pytest.raises(InputError, match=rf"in use by process {os.getpid()} on .* since 20"),
        run.locked(),
    ):
        pass
    with run.locked():
        pass
    assert {path.name for path in run.path.iterdir()} == {"checkpoints", "logs", "results"}


def test_where_the_file_system_knows_no_locks_a_dead_process_of_this_machine_is_recognised(run, no_locks):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    held = run.path / ".lock-held"
    for host, is_taken_over in ((socket.gethostname(), True), ("another", False)):
        held.write_text(json.dumps({"host": host, "pid": dead.pid, "since": "2026-01-01T00:00:00+00:00"}))
        if is_taken_over:
            with run.locked():
                assert json.loads(held.read_text())["pid"] == os.getpid()
        else:
            with pytest.raises(InputError, match=r"on another since 2026.*; if that is dead, remove .*lock-held"):
                run.locked().__enter__()


def test_the_status_tells_of_every_attempt(run):
    assert run.read_status() == {}
    begin_attempt(run)  # and the process is killed
    begin_attempt(run)
    resume_attempt_from(run, 7)
    end_attempt(run, "interrupted", "by SIGTERM", 9)
    begin_attempt(run)
    assert run.read_status()["status"] == "running"
    resume_attempt_from(run, 9)
    end_attempt(run, "completed", "12 steps done", 12)
    status = json.loads(run.status.read_text())
    assert (status["status"], status["reason"]) == ("completed", "12 steps done")
    told = [(a["status"], a["from_step"], a["to_step"], a["pid"]) for a in status["attempts"]]
    pid = os.getpid()
    assert told == [("interrupted", 0, None, pid), ("interrupted", 7, 9, pid), ("completed", 9, 12, pid)]
    assert status["attempts"][0]["ended"] == "unknown"


def test_a_discarded_run_takes_empty_folders_with_it_and_no_others(tmp_path):
    base = tmp_path / "outputs"
    base.mkdir()
    (base / "mine.txt").touch()
    first, second = (RunDirectory(create_experiment_dir(base, "pets", name)) for name in ("one", "two"))
    first.discard()
    assert second.path.is_dir()
    second.discard()
    assert [p.name for p in base.iterdir()] == ["mine.txt"]


def test_only_the_directory_of_a_run_opens(run, tmp_path):
    with pytest.raises(InputError, match=r"not the directory of a run: it has no config\.json"):
        open_run(tmp_path)
    run.config.write_text("{}")
    assert open_run(str(run.path)).run_id == "one"
