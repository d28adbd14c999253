"""`docs/engine/one-step.md` walks through one training step; it is short, and true."""

import logging
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from tiny_runs import CONFIGS, REPOSITORY, TINY, TRAIN, compose
from torch import Tensor

from reprise.runs.train import train

PAGE = REPOSITORY / "docs" / "engine" / "one-step.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page was deleted")
OURS = (*(str(REPOSITORY / folder) for folder in ("src/reprise", "src/hydra_plugins")), str(TRAIN.parent))

MOST_FILES, MOST_LINES = 8, 1_200
MOST_FRAMES_OF_TRAINING = 4
MOST_FRAMES_OF_RUNS = 4
"""From `train` on, before `Loop.run`."""
MOST_FRAMES = 12
MOST_CALLS = 70
"""Of functions of ours, from one step to the next where nothing else is due."""


def files_of_the_walk() -> list[Path]:
    return [REPOSITORY / name for name in re.findall(r"^\d+\. `(src/\S+\.py)`", PAGE.read_text("utf-8"), re.MULTILINE)]


def test_one_step_is_read_in_a_few_short_files() -> None:
    files = files_of_the_walk()
    assert len(files) > 5
    assert len(files) <= MOST_FILES
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= MOST_LINES


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_few_frames_lie_between_the_loop_and_a_backward_pass(
    num_microbatches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward, seen = Tensor.backward, []

    def noting(tensor: Tensor, *arguments: Any, **options: Any) -> None:
        seen.append([frame for frame in frames() if frame[0].startswith(OURS)])
        backward(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", noting)
    overrides = (f"output_dir={tmp_path}", "training.max_steps=2", f"training.gradient_accumulation={num_microbatches}")
    train(compose(*TINY, *overrides))
    assert len(seen) == 2 * num_microbatches
    for stack in seen:
        names = [name for _, name in stack]
        assert len(names[: names.index("Loop.run") + 1]) <= MOST_FRAMES_OF_TRAINING, names
        assert names.index("train") - names.index("Loop.run") <= MOST_FRAMES_OF_RUNS, names
        assert {file for file, _ in stack[: names.index("Loop.run") + 1]} <= set(map(str, files_of_the_walk()))


def test_few_frames_lie_between_the_script_and_a_backward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, backward, seen = str(REPOSITORY / "scripts" / "train.py"), Tensor.backward, []

    def noting(tensor: Tensor, *arguments: Any, **options: Any) -> None:
        seen.append([frame for frame in frames() if frame[0].startswith((*OURS, script))])
        backward(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", noting)
    overrides = [*TINY, f"output_dir={tmp_path}", "training.max_steps=1"]
    monkeypatch.setattr(sys, "argv", [script, "--config-path", str(CONFIGS), *overrides])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the command sets it
    handlers = list(logging.getLogger().handlers)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.captureWarnings(False)
    assert ended.value.code == 0, capsys.readouterr().err
    (stack,) = seen
    assert stack[-1] == (script, "<module>")
    assert len(stack) <= MOST_FRAMES, stack


def test_a_step_after_which_nothing_is_due_calls_little_and_touches_no_path(tmp_path: Path) -> None:
    steps: list[list[str]] = [[]]

    def note(frame: FrameType, event: str, _: Any) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if event == "call" and (
            file.startswith(OURS) or Path(file).parent.name == "pathlib" or file.endswith("pathlib.py")
        ):
            if name == "Loop._train_step":
                steps.append([])
            steps[-1].append(f"{Path(file).name} {name}")

    composed = compose(*TINY, f"output_dir={tmp_path}", "training.max_steps=12", "training.log_every_steps=null")
    sys.setprofile(note)
    try:
        train(composed)
    finally:
        sys.setprofile(None)
    calls = steps[4]  # neither the first one, which imports, nor one with an evaluation
    assert not [call for call in calls if call.startswith("pathlib")], calls
    assert len(calls) <= MOST_CALLS, calls


def frames() -> Iterator[tuple[str, str]]:
    """Yield file and function of all frames, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_code.co_qualname
        frame = frame.f_back  # type: ignore[assignment]
