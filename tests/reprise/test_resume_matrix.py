"""Every key of `training`, and others, changed alone on resuming: the table in docs/resuming.md is what happens."""

import dataclasses
import re
from pathlib import Path

import pytest
from resumed_runs import completed, contents, copied, failing, resumed, stopped, weights
from tiny_runs import REPOSITORY

from reprise.config.schema import TrainingConfig
from reprise.errors import ConfigError
from reprise.runs.run_directory import RunDirectory

PAGE = REPOSITORY / "docs" / "resuming.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page was deleted")
APPLIED, REFUSED, NO_EFFECT = "takes effect", "refused", "no effect on the weights"

# For each key another value; the run that is resumed has 8 steps of 12 done, 2 of the second epoch.
CHANGES = {
    "training.batch_size": ("34", "8"),
    "training.learning_rate": ("0.1",),
    "training.max_epochs": ("3", "1"),
    "training.max_steps": ("10", "5"),
    "training.warmup_steps": ("9",),
    "training.weight_decay": ("5.0",),
    "training.gradient_clip": ("0.01",),
    "training.drop_last": ("true",),
    "training.gradient_accumulation": ("1", "3"),
    "training.num_microbatches": ("1",),
    "training.parallel": ("fsdp",),
    "training.reduction": ("ordered",),
    "training.precision": ("bf16", "fp16"),
    "training.compile": ("true",),
    "training.device": ("cpu",),
    "training.checkpoint_every_epochs": ("1",),
    "training.checkpoint_every_steps": ("1",),
    "training.eval_every_steps": ("5",),
    "training.log_every_steps": ("2",),
    "training.overfit_batches": ("1",),
    "training.on_nonfinite": ("skip",),
    "training.monitor": ("val/accuracy",),
    "training.monitor_mode": ("max",),
    "training.optimizer": ("{_target_: torch.optim.SGD}",),
    "training.optimizer.betas": ("[0.5,0.6]",),
    "training.optimizer.eps": ("0.1",),
    "training.optimizer.amsgrad": ("true",),
    "training.scheduler": ("{_target_: reprise.optimization.schedules.ConstantSchedule}",),
    "seed": ("7",),
    "deterministic": ("false",),
    "num_threads": ("2",),
    "data.train_split": ("0.5",),
    "data.val_split": ("0.3",),
    "data.fold": ("1",),
    "data.stratify": ("true",),
    "data.shift_probability": ("0.9",),
    "data.num_workers": ("1",),
    "model.dropout": ("0.4",),
    "model.hidden_size": ("32",),
    "metrics.classification": ("null",),
    "callbacks.early_stopping": ("{_target_: reprise.callbacks.early_stopping.EarlyStopping, patience: 1}",),
    "callbacks.progress": ("null",),
    "card.license": ("mit",),
    "tracker.tensorboard": ("{_target_: reprise.trackers.tensorboard.TensorBoard}",),
}
ROWS = [(key, value) for key, values in CHANGES.items() for value in values]


@pytest.fixture(scope="module")
def at_step_8(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return stopped(tmp_path_factory.mktemp("stopped"), 8, "callbacks.model_card=null")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return completed(tmp_path_factory.mktemp("complete"), "callbacks.model_card=null")


def outcome(run: RunDirectory, path: Path, override: str, whole: RunDirectory) -> str:
    """Return what comes of a resume with one change: in each case nothing is said that does not hold."""
    run = copied(run, path)
    before, compiled, message = contents(run), list[str](), ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.Module.compile", lambda self, **_: compiled.append("model"))  # it takes half a minute
        try:
            resumed(run, override)
        except ConfigError as error:
            message = str(error)
    if message:
        assert contents(run) == before
        assert override.partition("=")[0] in message
        return REFUSED
    assert [line for line in failing(run) if override != "deterministic=false" or "is for speed" not in line] == []
    return NO_EFFECT if weights(run) == weights(whole) and not compiled else APPLIED


def test_every_key_of_training_is_in_the_table() -> None:
    keys = {f"training.{field.name}" for field in dataclasses.fields(TrainingConfig)}
    assert keys <= CHANGES.keys()


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], tuple[str, str]]:
    """Return what docs/resuming.md says: by key and value, for a stopped and for a complete run."""
    found = re.findall(r"^\| `([^`|]+)=([^`|]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {(key, value): (first, second) for key, value, first, second in found}


def test_the_table_has_a_row_for_each_change_and_no_other(rows: dict[tuple[str, str], tuple[str, str]]) -> None:
    assert list(rows) == ROWS


@pytest.mark.parametrize(("key", "value"), ROWS)
def test_a_change_does_what_the_table_says(
    key: str,
    value: str,
    at_step_8: RunDirectory,
    complete: RunDirectory,
    rows: dict[tuple[str, str], tuple[str, str]],
    tmp_path: Path,
) -> None:
    override = f"{key}={value}"
    found = (
        outcome(at_step_8, tmp_path / "stopped", override, complete),
        outcome(complete, tmp_path / "complete", override, complete),
    )
    assert rows.get((key, value)) == found, f"| `{override}` | {found[0]} | {found[1]} |"
