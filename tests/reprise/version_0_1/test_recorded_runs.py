"""Runs that version 0.1 recorded, before the engine was laid out anew: everything still takes them."""

import json
import shutil
from pathlib import Path

import pytest
import recorded_parts  # noqa: F401 - trusted by name below
import torch
from tiny_runs import compose

from reprise import load_run
from reprise.cli.resuming import resume
from reprise.config import ExperimentConfig
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.run_directory import open_run
from reprise.runs.train import train
from reprise.tools.checklist.audit import audit
from reprise.tools.compare import compare_runs
from reprise.tools.reproduction.recorded_code import find_clone, is_commit_here
from reprise.tools.reproduction.repeat import reproduce

HERE = Path(__file__).parent
TRUSTED = ["recorded_parts"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a copy of the runs, in an output directory of which the current directory is the parent."""
    shutil.copytree(HERE / "experiments", tmp_path / "outputs" / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return tmp_path / "outputs" / "experiments" / "points"


def is_same_class(run: Path) -> bool:
    """Return whether bits may be compared: this machine computes as the one did that recorded the run."""
    provenance = json.loads((run / "provenance.json").read_text())
    here = torch.backends.cpu.get_cpu_capability(), torch.__version__.split("+")[0]
    recorded = provenance["hardware"]["instruction_set"], provenance["environment"]["packages"]["torch"].split("+")[0]
    return here == recorded


def test_a_run_loads_with_its_config_metrics_and_weights(runs: Path) -> None:
    run = load_run(runs / "completed", TRUSTED)
    assert run.config.training.optimizer["_target_"] == "reprise.optimization.optimizers.AdamW"
    assert run.config.callbacks["checkpoints"]["_target_"] == "reprise.runs.persisters.checkpoints.Checkpoints"
    assert run.metrics["val/accuracy"].value.tolist() == [0.4375, 0.6875, 0.75]
    recorded = json.loads((runs / "completed" / "results" / "metrics.json").read_text())
    scored = run.evaluate()
    assert scored["weights_sha256"] == recorded["weights_sha256"]
    if is_same_class(runs / "completed"):
        assert scored["metrics"] == recorded["metrics"]


def test_an_interrupted_run_carries_on_to_the_bits_of_the_run_that_was_not(runs: Path) -> None:
    resume(runs / "interrupted", trusted_packages=TRUSTED)
    assert json.loads((runs / "interrupted" / "status.json").read_text())["status"] == "completed"
    if not is_same_class(runs / "completed"):
        return
    resumed, whole = (read_checkpoint(runs / name / "checkpoints" / "last.pt") for name in ("interrupted", "completed"))
    for key in ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "metrics", "torch_rng_state"):
        assert content_hash(resumed[key]) == content_hash(whole[key]), key
    lines = [
        [
            json.loads(line) | {"timestamp": None}
            for line in (runs / name / "logs" / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("interrupted", "completed")
    ]
    assert lines[0] == lines[1]


def test_the_command_of_an_interrupted_run_is_still_the_same_command(runs: Path) -> None:
    overrides = [
        *("experiment_name=points", "data=recorded", "model=recorded", "training.batch_size=16"),
        *("training.learning_rate=0.05", "training.max_epochs=3", "num_threads=1", "tracker=none"),
        *("trusted_packages=[recorded_parts]", "training.log_every_steps=2", "training.checkpoint_every_steps=2"),
        *("callbacks=[default,weights_trace,stop_at]", "run_id=interrupted"),
    ]
    composed = compose(*overrides)
    assert train(composed) == Path("outputs/experiments/points/interrupted")
    with pytest.raises(InputError, match=r"seed"):
        train(compose(*overrides, "seed=7"))


def test_a_run_is_extended_with_a_recorded_change(runs: Path) -> None:
    resume(runs / "completed", ["training.max_epochs=4"], trusted_packages=TRUSTED)
    status = json.loads((runs / "completed" / "status.json").read_text())
    assert status["attempts"][-1]["changes"] == [{"key": "training.max_epochs", "from": 3, "to": 4}]
    assert (status["attempts"][-1]["from_step"], status["attempts"][-1]["to_step"]) == (12, 16)


def test_runs_are_compared(runs: Path) -> None:
    resume(runs / "interrupted", trusted_packages=TRUSTED)
    comparison = compare_runs(runs / "completed", runs / "interrupted")
    assert len(comparison.variants) == 2


def test_a_run_is_repeated_with_the_code_of_today(runs: Path) -> None:
    verdict = reproduce(runs / "completed", current_code=True, trusted_packages=TRUSTED)
    assert verdict.is_identical or not is_same_class(runs / "completed")


def test_a_run_is_repeated_with_its_recorded_code(runs: Path) -> None:
    commit = json.loads((runs / "completed" / "provenance.json").read_text())["code"]["commit"]
    if not is_commit_here(find_clone(), commit):
        pytest.skip("the commit that recorded the run is not in this clone")
    verdict = reproduce(runs / "completed", trusted_packages=TRUSTED)
    assert verdict.is_identical or not is_same_class(runs / "completed")


def test_a_run_is_audited_and_only_what_needs_its_commit_may_fail(runs: Path) -> None:
    checks = {check.title: check for check in audit(open_run(runs / "completed"), TRUSTED)}
    failed = {title for title, check in checks.items() if check.verdict == "failed"}
    assert failed <= {"Code and parts at hand"}
    assert checks["Model card"].verdict == "not applicable"


def test_a_config_of_then_is_the_config_of_now() -> None:
    path = HERE / "experiments" / "points" / "completed" / "config.json"
    then, now = json.loads(path.read_text()), ExperimentConfig.load(path).to_dict()
    assert then.keys() <= now.keys()
