"""The checklist passes for a run that is whole, and each kind of damage fails the line that is about it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import EVERYTHING
from safetensors.torch import load_file, save_file
from tiny_runs import REPOSITORY, compose

from reprise.cli.resuming import resume
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.checklist import check_run
from reprise.tools.checklist.audit import audit, audit_run
from reprise.tools.model_card import write_model_card

Damage = Callable[[RunDirectory], object]


def edit_json(path: Path, *keys: str, value: Any) -> None:
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[int(key) if key.isdigit() else key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))


def edit_checkpoint(path: Path, **values: Any) -> None:
    """Change a checkpoint such that its checksum fits again."""
    state = {**read_checkpoint(path), **values}
    del state["sha256"]
    torch.save({**state, "sha256": content_hash(state)}, path)


def edit_lines(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def failing(run: RunDirectory) -> list[str]:
    return [check.title for check in audit(run) if check.verdict == "failed"]


@pytest.fixture(scope="module")
def whole_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run whose packages are as locked, as they need not be where the tests run."""
    run = RunDirectory(shutil.copytree(finished_run, tmp_path_factory.mktemp("whole") / "finished"))
    edit_json(run.provenance, "environment", "not_as_locked", value={})
    write_model_card(run, check_run(run))
    return run


@pytest.fixture
def copied(whole_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(whole_run.path, tmp_path / "finished"))


def add_weights_noise(run: RunDirectory) -> None:
    (path,) = run.export.glob("*.safetensors")
    tensors = load_file(path)
    name = min(tensors)
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


def lower_a_score(run: RunDirectory) -> None:
    """Let an evaluation that was not the best look as if it had been."""
    step = read_checkpoint(run.best_checkpoint)["step"]
    lines = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    other = next(line for line in lines if "val/loss" in line["metrics"] and line["step"] != step)
    other["metrics"]["val/loss"] = 0.001
    run.metrics_log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def edit_settings(run: RunDirectory, name: str, value: Any) -> None:
    state = read_checkpoint(run.last_checkpoint)
    for group in state["optimizer_state_dict"]["param_groups"]:
        group[name] = value
    edit_checkpoint(run.last_checkpoint, optimizer_state_dict=state["optimizer_state_dict"])


SEEDS, CONFIG, CHECKPOINTS = "Seeds set and documented", "Config saved", "Best and last checkpoints"
IN_FORCE = "Config in force"
METRICS, RESULTS, CODE = "Metrics logged", "Results of the best checkpoint", "Code recorded"
PACKAGES, FINGERPRINTS = "Packages as locked", "Data and initial weights fingerprinted"
DETERMINISTIC, REPRODUCIBLE = "Deterministic", "Reproducible from the config"
AT_HAND, CARD = "Code and parts at hand", "Model card"
SEEDED_ELSEWHERE = torch.Generator().manual_seed(7).get_state()
DRIFT = [{"fact": "hardware.cpu", "recorded": "one", "now": "another"}]

DAMAGES: dict[str, tuple[Damage, list[str]]] = {
    "something else has seeded": (
        lambda run: edit_checkpoint(run.last_checkpoint, torch_rng_state=SEEDED_ELSEWHERE),
        [SEEDS],
    ),
    "another seed in the config": (lambda run: edit_json(run.config, "seed", value=1), [SEEDS, CONFIG]),
    "another value in the config": (
        lambda run: edit_json(run.config, "training", "weight_decay", value=0.5),
        [CONFIG],
    ),
    "no number of steps in the config": (
        lambda run: edit_json(run.config, "callbacks", "metrics_log", "every_steps", value=[[]]),
        [CONFIG, METRICS, AT_HAND],
    ),
    "last checkpoint gone": (lambda run: run.last_checkpoint.unlink(), [IN_FORCE, CHECKPOINTS]),
    "last checkpoint cut off": (
        lambda run: run.last_checkpoint.write_bytes(run.last_checkpoint.read_bytes()[:-100]),
        [IN_FORCE, CHECKPOINTS],
    ),
    "a bit of the last checkpoint": (lambda run: flip_a_bit(run.last_checkpoint), [IN_FORCE, CHECKPOINTS]),
    "a bit of the best checkpoint": (lambda run: flip_a_bit(run.best_checkpoint), [CHECKPOINTS, RESULTS]),
    "not the best": (lower_a_score, [CHECKPOINTS]),
    "an optimizer that is set otherwise": (lambda run: edit_settings(run, "betas", (0.5, 0.6)), [IN_FORCE]),
    "a learning rate that no schedule gives": (lambda run: edit_settings(run, "lr", 0.5), [IN_FORCE]),
    "a monitored value of another metric": (
        lambda run: edit_json(run.metrics, "monitor", "value", value=0.9),
        [RESULTS],
    ),
    "a line of metrics gone": (
        lambda run: edit_lines(run.metrics_log, lambda lines: [x for x in lines if '"step": 10,' not in x]),
        [METRICS],
    ),
    "an evaluation gone": (
        lambda run: edit_lines(run.metrics_log, lambda lines: [x for x in lines if '"step": 6,' not in x]),
        [METRICS],
    ),
    "a line of metrics twice": (
        lambda run: edit_lines(run.metrics_log, lambda lines: [*lines, lines[-1]]),
        [METRICS],
    ),
    "the end of the metrics cut off": (
        lambda run: run.metrics_log.write_bytes(run.metrics_log.read_bytes()[:-5]),
        [CHECKPOINTS, METRICS],
    ),
    "a metric that is no number": (
        lambda run: edit_lines(run.metrics_log, lambda x: [x[0], x[1].replace('norm": ', 'norm": NaN, "x": '), *x[2:]]),
        [METRICS],
    ),
    "the epoch of a line": (
        lambda run: edit_lines(run.metrics_log, lambda x: [x[0], x[1].replace('"epoch": 2', '"epoch": 1'), *x[2:]]),
        [METRICS],
    ),
    "results of other weights": (lambda run: edit_json(run.metrics, "weights_sha256", value="ab" * 32), [RESULTS]),
    "results of another step": (lambda run: edit_json(run.metrics, "step", value=1), [RESULTS]),
    "another weight exported": (add_weights_noise, [RESULTS]),
    "no export": (lambda run: shutil.rmtree(run.export), [RESULTS]),
    "predictions cut off": (
        lambda run: run.predictions.write_bytes(run.predictions.read_bytes()[:-5]),
        [RESULTS],
    ),
    "another patch": (lambda run: edit_json(run.provenance, "code", "patch_sha256", value="ab" * 32), [CODE]),
    "no commit": (lambda run: edit_json(run.provenance, "code", "commit", value=None), [CODE, AT_HAND]),
    "a commit that is not here": (lambda run: edit_json(run.provenance, "code", "commit", value="0" * 40), [AT_HAND]),
    "another package": (
        lambda run: edit_json(run.provenance, "environment", "not_as_locked", value={"numpy": ["1.0", "2.0"]}),
        [PACKAGES],
    ),
    "no fingerprint of the data": (
        lambda run: edit_json(run.provenance, "data", "splits", "test", value={"num_samples": 130, "sha256": None}),
        [FINGERPRINTS],
    ),
    "no fingerprint of the weights": (
        lambda run: edit_json(run.provenance, "model", "initial_sha256", value=None),
        [FINGERPRINTS],
    ),
    "an operation that warned": (
        lambda run: edit_json(run.provenance, "determinism", "nondeterministic_operations", value=["put_"]),
        [DETERMINISTIC],
    ),
    "a mode that was not asked for": (
        lambda run: edit_json(run.provenance, "determinism", "debug_mode", value="default"),
        [DETERMINISTIC],
    ),
    "another processor on the way": (
        lambda run: edit_json(run.status, "attempts", "0", "drift", value=DRIFT),
        [REPRODUCIBLE],
    ),
    "provenance that cannot be read": (
        lambda run: run.provenance.write_text("{"),
        [SEEDS, IN_FORCE, METRICS, CODE, PACKAGES, FINGERPRINTS, DETERMINISTIC, AT_HAND, CARD],
    ),
}


def test_a_finished_run_passes_every_line(whole_run: RunDirectory) -> None:
    checks = audit(whole_run)
    assert {(check.title, check.verdict, check.evidence) for check in checks if check.verdict != "passed"} == set()
    assert len({check.title for check in checks}) == 13


def test_the_card_that_a_run_wrote_has_the_same_bytes_when_it_is_written_again(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    (card,) = [check for check in audit(run) if check.title == CARD]
    assert card.verdict == "passed"
    text = run.model_card.read_text()
    assert all(check.title in text for check in check_run(run))


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_fails_exactly_the_lines_that_are_about_it(copied: RunDirectory, name: str) -> None:
    damage, expected = DAMAGES[name]
    damage(copied)
    if CARD not in expected:
        write_model_card(copied, check_run(copied))  # it would no longer be that of the files
    assert failing(copied) == expected


def test_a_card_that_was_edited_or_is_gone_fails_its_line(copied: RunDirectory) -> None:
    text = copied.model_card.read_text()
    copied.model_card.write_text(text.replace("passed", "Passed", 1))
    assert failing(copied) == [CARD]
    copied.model_card.unlink()
    assert failing(copied) == [CARD]


def test_a_run_with_all_cadences_passes_and_so_does_the_one_it_is_extended_to(tmp_path: Path) -> None:
    run = RunDirectory(train(compose(*EVERYTHING, f"output_dir={tmp_path}")))
    assert set(failing(run)) <= {PACKAGES}
    resume(run.path, ["training.max_epochs=3", "training.eval_every_steps=3"])
    assert set(failing(run)) <= {PACKAGES}
    verdicts = {check.title: (check.verdict, check.evidence) for check in audit(run)}
    verdict, evidence = verdicts[REPRODUCIBLE]
    assert verdict == "not applicable"
    assert "`training.eval_every_steps`, `training.max_epochs`" in evidence


def test_script_prints_all_lines_and_exits_with_3_if_one_failed(copied: RunDirectory) -> None:
    copied.model_card.unlink()
    script = REPOSITORY / "scripts" / "audit.py"
    done = subprocess.run(
        [sys.executable, script, copied.path, "--trust", "tiny"], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line]
    assert (done.returncode, done.stderr) == (3, f"{copied.path}: 1 of 13 checks failed\n")
    assert sum(line.startswith("passed  ") for line in lines) == 12
    assert lines[-1].startswith("FAILED  Model card ")


def test_of_files_that_are_not_there_no_line_passes(whole_run: RunDirectory, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    shutil.copy(whole_run.config, run.config)
    assert {check.verdict for check in audit(run)} == {"failed"}
    run.config.write_text("{")
    assert {check.verdict for check in audit(run)} == {"failed"}


def test_what_is_no_run_is_the_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the directory of a run"):
        audit_run([str(tmp_path)])


def test_without_a_failure_nothing_is_raised(whole_run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    audit_run([str(whole_run.path)])
    assert capsys.readouterr().out.count("passed  ") == 13
