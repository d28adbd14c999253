"""One page about many runs: what it holds. What it does in a browser: test_report_browser.py."""

import base64
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from many_runs import make_runs, num_calls
from tiny_runs import REPOSITORY

from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory
from reprise.tools.compare import compare_runs
from reprise.tools.report import report_runs, write_report
from reprise.tools.report.curves import points_per_curve, thinned

REPORT = REPOSITORY / "scripts" / "report.py"
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>&amp;\u2028\ud800"


class Elements(HTMLParser):
    """Collects the elements of a page: tag, attributes and the text in each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        return [text for name, given, text in self.found if name == tag and attributes.items() <= given.items()]


@pytest.fixture
def many(finished_run: Path, tmp_path: Path) -> Path:
    """Return the directory of an experiment of twelve runs."""
    return make_runs(finished_run, tmp_path, 12)


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that writes a report and returns the data in it."""

    def write(*names: object, **options: Any) -> dict[str, Any]:
        path = write_report(*map(str, names), output_path=tmp_path / "r.html", output_dir=tmp_path, **options)
        (text,) = Elements(path.read_text(encoding="utf-8")).texts("script", id="data")
        data: dict[str, Any] = json.loads(text)
        return data

    return write


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file."""
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))


def test_the_page_loads_nothing_and_admits_only_its_own_style_and_script(many: Path, tmp_path: Path) -> None:
    page = write_report(many, output_path=tmp_path / "r.html").read_text()
    elements = Elements(page)
    assert not [tag for tag, given, _ in elements.found if given.keys() & {"src", "href", "srcset", "data", "action"}]
    assert not [given for _, given, _ in elements.found if any(name.startswith(("on", "style")) for name in given)]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    (style,) = elements.texts("style")
    data, script = elements.texts("script")

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (policy,) = [given["content"] for _, given, _ in elements.found if "http-equiv" in given]
    assert policy == (
        f"default-src 'none'; style-src {source(style)}; script-src {source(script)}; base-uri 'none'; "
        "form-action 'none'"
    )
    assert json.loads(data)["runs"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp", script)


def test_markup_in_labels_stays_inside_the_data(many: Path, report: Callable[..., dict[str, Any]]) -> None:
    run = RunDirectory(many / "run_00003")
    change(run.config, lambda config: config | {"model": config["model"] | {"name": HOSTILE}})
    change(run.metrics, lambda results: results | {"metrics": {HOSTILE: 0.5}})
    change(run.status, lambda status: status | {"reason": HOSTILE})
    run.model_card.write_text(f"# Card\n\n{HOSTILE[:-1]}\n")
    data = report("many")  # it would not parse if an element had ended early
    expected = HOSTILE.replace("\ud800", "?")
    (found,) = [one for one in data["runs"] if one["id"] == "run_00003"]
    assert (found["config"]["model.name"], list(found["metrics"])) == (expected, [expected])
    assert data["lines"][found["card"][2]] == HOSTILE[:-1]
    page = (many.parent.parent / "r.html").read_text()
    assert page.count("</script") == 2
    assert "<!--" not in page


def test_the_same_runs_give_the_same_bytes(many: Path, tmp_path: Path) -> None:
    first, second = (write_report(many, output_path=tmp_path / name).read_bytes() for name in ("1.html", "2.html"))
    assert first == second


def test_the_page_holds_what_the_files_hold(many: Path, report: Callable[..., dict[str, Any]]) -> None:
    data = report("many")
    found = compare_runs(many)
    assert (data["metric"], data["mode"], data["keys"]) == (found.metric, found.mode, list(found.keys))
    assert [v["metrics"]["test/loss"] for v in data["variants"]] == [
        [*summary[:2]] for variant in found.variants if (summary := variant.summary("test/loss"))
    ]
    for one in data["runs"]:
        run = RunDirectory(one["path"])
        results = json.loads(run.metrics.read_text())
        assert one["metrics"] == results["metrics"]
        assert one["matrices"] == [results["details"]["classification"]["confusion_matrix"]]
        assert "\n".join(data["lines"][line] for line in one["card"]) + "\n" == run.model_card.read_text()
        assert not data["common"].keys() & one["config"].keys()
        config = data["common"] | one["config"]
        assert config == compare_runs(run.path).variants[0].runs[0].flat_config
        logged = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
        steps, values = one["curves"]["val/loss"]
        assert list(zip(steps, values, strict=True)) == [
            (line["step"], pytest.approx(line["metrics"]["val/loss"], rel=1e-4))
            for line in logged
            if "val/loss" in line["metrics"]
        ]


def test_runs_that_are_not_complete_are_shown_with_their_status(
    many: Path, report: Callable[..., dict[str, Any]]
) -> None:
    run = RunDirectory(many / "run_00007")
    change(run.status, lambda status: status | {"status": "failed", "reason": "no memory"})
    run.metrics.unlink()
    run.model_card.unlink()
    (found,) = [one for one in report("many")["runs"] if one["id"] == "run_00007"]
    assert (found["status"], found["why"], found["is_counted"]) == ("failed", "failed: no memory", False)
    assert (found["metrics"], found["matrices"], found["card"]) == ({}, [], None)
    assert found["curves"]


def test_damaged_files_are_named_on_the_page(many: Path, report: Callable[..., dict[str, Any]]) -> None:
    RunDirectory(many / "run_00001").config.write_text("{")
    RunDirectory(many / "run_00002").metrics_log.write_text("nonsense\n")
    RunDirectory(many / "run_00003").model_card.write_bytes(b"\xff")
    data = report("many")
    assert len(data["runs"]) == 11
    starts = ("run_00001 is left out: ", "run_00002 has no curves: ", "run_00003 has no card: ")
    assert len(data["warnings"]) == 3
    for warning, start in zip(sorted(data["warnings"]), starts, strict=True):
        assert f"/{start}" in warning


def test_large_confusion_matrices_are_left_out(many: Path, report: Callable[..., dict[str, Any]]) -> None:
    labels = [str(number) for number in range(51)]
    matrix = {"labels": labels, "counts": [[1] * 51] * 51}
    change(
        RunDirectory(many / "run_00000").metrics, lambda r: r | {"details": {"classes": {"confusion_matrix": matrix}}}
    )
    (found,) = [one for one in report("many")["runs"] if one["id"] == "run_00000"]
    assert found["matrices"] == [{"num_labels": 51}]


def test_thinned_curves_keep_every_extreme_and_make_up_no_point() -> None:
    draw = random.Random(0)
    for num_points in (1, 5, 20, 21, 333, 10_000):
        curve = [10 * i for i in range(num_points)], [draw.gauss(0, 1) for _ in range(num_points)]
        for most in (4, 20, 21, 300):
            steps, values = thinned(curve, most)
            assert len(steps) == len(values) == min(len(steps), most, num_points)
            assert set(zip(steps, values, strict=True)) <= set(zip(*curve, strict=True))
            assert steps == sorted(steps)
            assert (steps[0], steps[-1]) == (curve[0][0], curve[0][-1])
            assert (min(values), max(values)) == (min(curve[1]), max(curve[1]))


def test_the_points_of_a_page_are_bounded() -> None:
    for num_runs in (1, 10, 100, 1000, 5000):
        for num_metrics in (1, 9):
            assert 20 <= points_per_curve(num_runs, num_metrics) <= 300
            assert num_runs * num_metrics * points_per_curve(num_runs, num_metrics) <= 1_000_000


def test_work_and_size_for_one_run_do_not_grow_with_their_number(finished_run: Path, tmp_path: Path) -> None:
    def cost(num_runs: int) -> tuple[int, int]:
        directory = make_runs(finished_run, tmp_path, num_runs, f"runs_{num_runs}")
        path = tmp_path / "r.html"
        return num_calls(lambda: write_report(directory, output_path=path)), path.stat().st_size

    cost(10)  # what is done once for the process
    (few_calls, few_bytes), (many_calls, many_bytes) = cost(50), cost(250)
    assert many_calls / 250 < 1.1 * few_calls / 50
    assert many_bytes / 250 < 1.1 * few_bytes / 50


def test_the_command_reports_all_experiments_and_imports_no_torch(finished_run: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    make_runs(finished_run, outputs, 2, "one")
    make_runs(finished_run, outputs, 3, "two")
    program = (
        f"import runpy, sys; sys.argv = ['report.py']\n"
        f"try: runpy.run_path({str(REPORT)!r}, run_name='__main__')\n"
        "finally: assert not {'torch', 'hydra', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "report.html\n", "")
    (text,) = Elements((tmp_path / "report.html").read_text()).texts("script", id="data")
    data = json.loads(text)
    assert data["title"] == "Runs of one, two"
    assert sorted(one["path"].split("/")[2] for one in data["runs"]) == ["one", "one", "two", "two", "two"]


def test_nothing_to_report_is_an_error_and_leaves_no_file(tmp_path: Path, finished_run: Path) -> None:
    for arguments in ([], ["nothing"]):
        with pytest.raises(InputError, match=r"no run|no experiments"):
            report_runs([*arguments, "--output-dir", str(tmp_path), "--output", str(tmp_path / "r.html")])
    shutil.rmtree(tmp_path / "experiments", ignore_errors=True)
    with pytest.raises(InputError, match=r"--output: .* cannot be written: No such file or directory"):
        report_runs([str(finished_run), "--output", str(tmp_path / "missing" / "r.html")])
    assert list(tmp_path.iterdir()) == []
