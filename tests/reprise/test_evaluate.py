import json
import shutil

import pytest

from reprise.errors import InputError
from reprise.tools.evaluate import evaluate_run


def test_scoring_a_run_again_says_that_it_agrees_with_what_was_recorded(finished_run, capsys):
    evaluate_run([str(finished_run)])
    headline, *lines = capsys.readouterr().out.splitlines()
    recorded = json.loads((finished_run / "results" / "metrics.json").read_text())
    assert headline.startswith(f"{finished_run}: checkpoint best (epoch {recorded['epoch']}, step {recorded['step']})")
    assert [line.split() for line in lines] == [
        [name, f"{value:.6g}", "as", "recorded"] for name, value in recorded["metrics"].items()
    ]


@pytest.mark.parametrize("options", [["--split", "val"], ["--checkpoint", "last"]])
def test_another_checkpoint_or_split_is_compared_with_nothing(finished_run, capsys, options):
    evaluate_run([str(finished_run), *options])
    output = capsys.readouterr().out
    assert ("val/accuracy" if "val" in options else "test/accuracy") in output
    assert "recorded" not in output


def test_a_score_that_differs_from_the_record_is_shown_beside_it(finished_run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(finished_run, copy)
    path = copy / "results" / "metrics.json"
    recorded = json.loads(path.read_text())
    recorded["metrics"]["test/accuracy"] = 0.123
    path.write_text(json.dumps(recorded))
    evaluate_run([str(copy)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "recorded: " in line] == ["test/accuracy"]
    assert any(line.endswith("recorded: 0.123") for line in lines)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the directory of a run"):
        evaluate_run([str(tmp_path)])
