"""What arrives on the Hub: a server of its interface on loopback, and the real command."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import Hub
from huggingface_hub import ModelCard
from tiny_runs import REPOSITORY

from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory
from reprise.tools.sharing import collect_uploads, push_run

TOKEN = "hf_" + "Secret" * 6
DEFAULT = {
    "README.md",
    "config.json",
    "model.safetensors",
    "run_config.json",
    "results/metrics.json",
    "results/learning_curves.svg",
    "results/confusion_matrix.svg",
    "results/reliability.svg",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.stop()


def push(run: Path, address: str, *options: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """Carry out the real command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    # Nothing of this machine is used, such as a token that somebody has saved; and Xet has a server of its own.
    environment |= {"HF_ENDPOINT": address, "HF_TOKEN_PATH": "/nowhere", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, REPOSITORY / "scripts" / "push.py", run, "me/digits", *options]
    if token is not None:
        environment["HF_TOKEN"] = token
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def push_here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["push.py", *map(str, arguments)])
    push_run()


def test_card_weights_config_and_figures_arrive_and_nothing_else(finished_run: Path, hub: Hub) -> None:
    done = push(finished_run, hub.address, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{hub.address}/me/digits"
    assert set(hub.files) == DEFAULT
    assert hub.num_commits == 1
    assert hub.validated == [hub.files["README.md"].decode()]
    (created,) = hub.created
    assert created["visibility"] == "private"
    run = RunDirectory(finished_run)
    for name in DEFAULT - {"README.md", "run_config.json"}:
        source = run.path / name if "/" in name else run.export / name
        assert hub.files[name] == source.read_bytes()
    assert hub.files["run_config.json"] == run.config.read_bytes()
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout
    # Each file was shown before.
    for name in DEFAULT:
        assert re.search(rf"^ +[\d.]+ \w+  {re.escape(name)}$", done.stdout, flags=re.MULTILINE)


def test_card_on_the_hub_loads_from_there_and_its_pictures_came_along(finished_run: Path) -> None:
    uploads = {upload.name: upload.source for upload in collect_uploads(RunDirectory(finished_run), "me/digits")}
    content = uploads["README.md"]
    assert isinstance(content, bytes)
    text = content.decode()
    assert 'directory = snapshot_download("me/digits")' in text
    assert str(finished_run) not in text
    linked = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(linked) == 3
    assert set(linked) <= set(uploads)
    (result, *_) = ModelCard(text).data.eval_results or []
    assert result.task_type == "image-classification"


def test_card_on_the_hub_loads_a_model_of_transformers_by_its_name_there(finished_run: Path, tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(finished_run, tmp_path / "run"))
    provenance = json.loads(run.provenance.read_text())
    provenance["model"] |= {"library": "transformers", "class": "transformers.ViTForImageClassification"}
    run.provenance.write_text(json.dumps(provenance))
    (text,) = (upload.source for upload in collect_uploads(run, "me/digits") if upload.name == "README.md")
    assert isinstance(text, bytes)
    assert 'directory = "me/digits"\nmodel = ViTForImageClassification.from_pretrained(directory)' in text.decode()


def test_what_is_asked_for_is_uploaded_as_well(finished_run: Path) -> None:
    run = RunDirectory(finished_run)

    def more(*includes: str) -> set[str]:
        return {upload.name for upload in collect_uploads(run, "me/digits", includes)} - DEFAULT

    assert more("checkpoints") == {"checkpoints/best.pt", "checkpoints/last.pt"}
    assert more("logs") == {"logs/train.log", "logs/metrics.jsonl"}
    assert more("code") - {"code.patch"} == {"provenance.json"}
    assert more("predictions") == {"results/predictions.json"}


def test_a_run_that_is_not_complete_is_refused_unless_told(finished_run: Path, tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(finished_run, tmp_path / "run"))
    status = run.read_status() | {"status": "interrupted"}
    run.status.write_text(json.dumps(status))
    with pytest.raises(InputError, match=r"expected a complete run, and it is interrupted; --unfinished"):
        collect_uploads(run, "me/digits")
    card = collect_uploads(run, "me/digits", is_unfinished_allowed=True)[0].source
    assert isinstance(card, bytes)
    assert b"The run did not finish" in card


def test_a_dry_run_shows_and_uploads_nothing(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push_here(monkeypatch, finished_run, "me/digits", "--dry-run")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "To me/digits (private if it is made now):"
    assert {line.split()[-1] for line in shown[1:-1]} == DEFAULT
    assert shown[-1].startswith("8 files, ")


def test_without_a_terminal_nothing_is_uploaded_unless_told(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(InputError, match="--yes uploads without asking"):
            push_here(monkeypatch, finished_run, "me/digits")


@pytest.mark.parametrize("name", ["a b/c", "a/b/c", "../x", ""])
def test_a_name_that_the_hub_would_not_take_is_found_first(
    name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="REPO"):
        push_here(monkeypatch, finished_run, name, "--dry-run")


def test_a_refusal_is_one_message(finished_run: Path) -> None:
    hub = Hub(refuses=True)
    done = push(finished_run, hub.address, "--yes")
    hub.stop()
    assert done.returncode == 1
    assert done.stderr.startswith("Error: me/digits: nothing was uploaded: ")
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert hub.files == {}


def test_without_a_token_one_message_says_where_it_comes_from(finished_run: Path, hub: Hub) -> None:
    done = push(finished_run, hub.address, "--yes", token=None)
    assert done.returncode == 2
    assert done.stderr == "Error: there is no token for the Hub: `hf auth login` asks for one, or set HF_TOKEN\n"
    assert hub.created == []
