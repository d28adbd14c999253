"""Credentials are used and never written down."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny.images import load_images
from tiny_runs import REPOSITORY, TINY, TRAIN, compose

from reprise.cli.resuming import resume
from reprise.config.secrets import (
    HIDDEN,
    hidden,
    hidden_in_arguments,
    hidden_in_text,
    is_secret,
    keep_secret,
    without_users,
)
from reprise.data import Data
from reprise.errors import ConfigError, InputError
from reprise.runs.provenance import credentials_in
from reprise.runs.run_directory import RunDirectory
from reprise.runs.saved_run import load_run
from reprise.runs.train import train

KEY, PASSWORD, FROM_ENVIRONMENT = "sk-8f31c09b", "hunter2secret", "gho_from_the_environment"
used: list[tuple[str, str]] = []


def load_with_key(
    *, train_split: float, val_split: float, shift_probability: float, api_key: str, address: str, seed: int
) -> Data:
    """Return the images; what it was given is noted, and told to the log, as careless code does."""
    used.append((api_key, address))
    logging.getLogger("reprise.mine").warning("asking with %s at %s", api_key, address)
    if address.endswith("refused"):
        raise RuntimeError(f"403 for {api_key}")
    return load_images(train_split=train_split, val_split=val_split, shift_probability=shift_probability, seed=seed)


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("SOME_TOKEN", FROM_ENVIRONMENT)
    logging.getLogger().setLevel(logging.INFO)
    overrides = [
        *TINY,
        f"output_dir={tmp_path}",
        "run_id=run",
        "data._target_=test_secrets.load_with_key",
        f"data.api_key={KEY}",
        f"data.address='https://me:{PASSWORD}@example.org/data'",
        "+callbacks.progress.seconds=5",
        "trusted_packages=[test_secrets]",
    ]
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", *overrides])
    return [override.replace("+callbacks", "callbacks") for override in overrides]


def files_with(run: Path, *texts: str) -> list[str]:
    """Return the files that hold one of the texts; checkpoints are not compressed."""
    return [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and any(text.encode() in path.read_bytes() for text in texts)
    ]


def compose_with_key(overrides: list[str]) -> Any:
    return compose(*(line.replace("data.api", "++data.api").replace("data.addr", "++data.addr") for line in overrides))


def test_credentials_reach_the_code_and_no_file(overrides: list[str], tmp_path: Path) -> None:
    composed = compose_with_key(overrides)
    run = RunDirectory(train(composed))
    assert used[-1] == (KEY, f"https://me:{PASSWORD}@example.org/data")
    assert files_with(run.path, KEY, PASSWORD, FROM_ENVIRONMENT) == []
    assert json.loads(run.config.read_text())["data"]["api_key"] == HIDDEN
    assert json.loads(run.config.read_text())["data"]["address"] == f"https://{HIDDEN}@example.org/data"
    command = json.loads(run.provenance.read_text())["command"]
    assert f"data.api_key={HIDDEN}" in command["argv"]
    assert f"++data.api_key={HIDDEN}" in command["overrides"]
    assert f"asking with {HIDDEN}" in run.train_log.read_text()

    # The same command is the same run, whatever the key is by now.
    assert train(compose_with_key([line.replace(KEY, "another-key") for line in overrides])) == run.path

    # What needs them again says so, and takes them.
    with pytest.raises(ConfigError, match=r"data\.api_key: a secret, which no run records; give it again as data\.api"):
        resume(run.path, ["training.max_epochs=3"], ["test_secrets"])
    again = [f"data.api_key={KEY}", f"data.address='https://me:{PASSWORD}@example.org/data'"]
    resume(run.path, ["training.max_epochs=3", *again], ["test_secrets"])
    assert used[-1][0] == KEY
    assert files_with(run.path, KEY, PASSWORD) == []
    assert [change["key"] for change in run.read_status()["attempts"][-1]["changes"]] == ["training.max_epochs"]
    with pytest.raises(InputError, match=r"data\.api_key: a secret"):
        load_run(run.path, ["test_secrets"]).model()


def test_sweep_shows_no_credentials_and_writes_none_down(overrides: list[str], tmp_path: Path) -> None:
    not_here = ("run_id", "callbacks.progress", "data.address")
    addresses = f"data.address='https://me:{PASSWORD}@example.org/data','https://me:{PASSWORD}@example.org/refused'"
    command = [sys.executable, str(TRAIN), "-m", "sweep_id=s", addresses, "num_threads=1"]
    done = subprocess.run(
        [*command, *(line for line in overrides if not line.startswith(not_here))],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "tests" / "reprise")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(f"asking with {HIDDEN}") == 2
    assert [text for text in (KEY, PASSWORD, FROM_ENVIRONMENT) if text in done.stdout + done.stderr] == []
    assert files_with(tmp_path, KEY, PASSWORD, FROM_ENVIRONMENT) == []
    assert f"403 for {HIDDEN}" in (tmp_path / "experiments" / "base" / "sweeps" / "s" / "summary.md").read_text()


def test_reason_of_a_failure_holds_no_credentials(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError(f"403 for {KEY}")

    with monkeypatch.context() as patch:
        patch.setattr("reprise.runs.attempt.write_results", refused)
        with pytest.raises(RuntimeError):
            train(compose_with_key(overrides))
    run = RunDirectory(tmp_path / "experiments" / "base" / "run")
    assert run.read_status()["reason"] == f"RuntimeError: 403 for {HIDDEN}"
    monkeypatch.setattr("reprise.runs.attempt.export_model", refused)
    train(compose_with_key(overrides))
    assert run.read_status()["missing"] == {"export": f"RuntimeError: 403 for {HIDDEN}"}
    assert files_with(run.path, KEY) == []


def test_message_about_a_credential_does_not_show_it(overrides: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_with_key([line.replace(KEY, "123456789") for line in overrides])
    assert "data.api_key" in str(refused.value)
    assert "123456789" not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "data.apiKey",
        "hub.token",
        "HF_TOKEN",
        "auth-token",
        "password",
        "aws.secret_access_key",
        "credentials",
    ],
)
def test_keys_of_credentials(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["model.tokenizer", "pad_token", "max_tokens", "eos_token", "model.name", "key", "data.sort_key", "card.authors"],
)
def test_keys_of_other_things(key: str) -> None:
    assert not is_secret(key)


def test_addresses_lose_user_and_password() -> None:
    assert without_users("at https://me:pw@host:5000/x and postgresql://me@db/y") == (
        "at https://host:5000/x and postgresql://db/y"
    )


def test_what_is_hidden_in_values_and_what_is_not() -> None:
    values = {
        "token": "abc",
        "credentials": {"user": "me", "numbers": [1, 2]},
        "password": None,
        "secret": True,
        "hf_token": "${oc.env:HF_TOKEN}",
        "url": "https://abc@host/path?token=xyz&page=2",
        "git": "ssh://git@host/path",
        "lines": ["data.api_key=abc", "seed=1"],
    }
    assert hidden(values) == {
        "token": HIDDEN,
        "credentials": {"user": HIDDEN, "numbers": [HIDDEN, HIDDEN]},
        "password": None,
        "secret": True,
        "hf_token": "${oc.env:HF_TOKEN}",
        "url": f"https://{HIDDEN}@host/path?token={HIDDEN}&page=2",
        "git": "ssh://git@host/path",
        "lines": [f"data.api_key={HIDDEN}", "seed=1"],
    }


def test_what_is_hidden_in_commands_and_texts() -> None:
    assert hidden_in_arguments(["--token", "abc", "--steps", "3", "api_key='a b'"]) == [
        *("--token", HIDDEN, "--steps", "3", f"api_key={HIDDEN}")
    ]
    keep_secret({"tracker": {"tokens": [{"api_key": "k-abcd"}], "pad_token": "k-0123"}})
    assert hidden_in_text("the key k-abcd was refused, k-0123 not") == f"the key {HIDDEN} was refused, k-0123 not"


def test_patch_with_a_credential_in_a_config_file_is_recognised() -> None:
    def patch(name: str, line: str) -> bytes:
        return f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1,2 @@\n a: 1\n+{line}\n".encode()

    assert credentials_in(patch("configs/tracker/mine.yaml", "  api_key: sk-123")) == ["api_key"]
    for name, line in (
        ("configs/tracker/mine.yaml", "api_key: ${oc.env:KEY}"),
        ("configs/tracker/mine.yaml", "api_key: null"),
        ("configs/tracker/mine.yaml", "seed: 1"),
        ("src/mine/data.py", "token: str"),
    ):
        assert credentials_in(patch(name, line)) == []
