import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from reprise.cli.resuming import resume
from reprise.runs.run_directory import RunDirectory


def test_every_complete_run_has_its_plots_and_the_card_shows_them(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    assert [path.name for path in run.plots] == ["learning_curves.svg", "confusion_matrix.svg", "reliability.svg"]
    for path in run.plots:
        ElementTree.parse(path)
    linked = re.findall(r"^!\[[^]]+\]\(([^)]+)\)$", run.model_card.read_text(), flags=re.MULTILINE)
    assert sorted(linked) == sorted(path.relative_to(run.path).as_posix() for path in run.plots)


def test_without_the_callback_there_are_none_and_the_card_shows_none(train_tiny: Callable[..., Path]) -> None:
    run = RunDirectory(train_tiny("~callbacks.plots"))
    assert run.plots == []
    assert "![" not in run.model_card.read_text()


def test_plots_of_a_shorter_run_do_not_outlive_it(train_tiny: Callable[..., Path]) -> None:
    path = train_tiny("run_id=one")
    before = RunDirectory(path).learning_curves.read_bytes()
    resume(path, ["training.max_epochs=3"])
    assert RunDirectory(path).learning_curves.read_bytes() != before
    resume(path, ["training.max_epochs=4", "callbacks.plots=null"])
    assert RunDirectory(path).plots == []
    assert "![" not in RunDirectory(path).model_card.read_text()
