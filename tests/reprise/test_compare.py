"""Runs side by side."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_runs import make_runs, num_calls
from markdown_it import MarkdownIt
from tiny_runs import REPOSITORY

from reprise.errors import InputError
from reprise.runs.run_directory import RunDirectory, find_run
from reprise.tools.compare import compare_runs, print_comparison
from reprise.tools.compare.comparison import Variant
from reprise.tools.statistics import mean_interval, student_quantile

COMPARE = REPOSITORY / "scripts" / "compare.py"
HOSTILE = 'a|b`c`,"x"\n=1+1\x1b[31m\u202e<b>&amp;</b> \\% $x$ {y} #1 ~^_ $^*[link](javascript:1)'
WriteRun = Callable[..., Path]
Printed = tuple[str, str]


@pytest.fixture
def write_run(finished_run: Path, tmp_path: Path) -> WriteRun:
    """Return a function that writes the JSON files of a run, which are those of a real one but for what is given."""
    numbers = iter(range(1000))

    def write(
        *,
        experiment: str = "base",
        status: str | None = "completed",
        metrics: dict[str, float] | None = None,
        reason: str = "",
        started: str = "2026-11-24T00:00:00+00:00",
        run_id: str | None = None,
        **config: Any,
    ) -> Path:
        number = next(numbers)
        source = RunDirectory(finished_run)
        target = RunDirectory(find_run(tmp_path, experiment, run_id or f"run_{number}"))
        target.results.mkdir(parents=True)
        values = json.loads(source.config.read_text()) | {"experiment_name": experiment, "run_id": target.run_id}
        for key, value in config.items():
            *sections, name = key.split("__")
            section = values
            for part in sections:
                section = section[part]
            section[name] = value
        target.config.write_text(json.dumps(values))
        if status is not None:
            record = {"status": status, "reason": reason, "attempts": [{"started": started}]}
            target.status.write_text(json.dumps(record))
        if metrics is not None:
            results = json.loads(source.metrics.read_text()) | {"metrics": metrics}
            target.metrics.write_text(json.dumps(results))
        return target.path

    return write


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Printed]:
    """Return a function that gives arguments to the command and returns what it prints to stdout and stderr."""

    def call(*arguments: object) -> Printed:
        print_comparison([*map(str, arguments), "--output-dir", str(tmp_path)])
        captured = capsys.readouterr()
        return captured.out, captured.err

    return call


def two_variants(write_run: WriteRun) -> None:
    """Write three seeds of each of two variants, and one seed more of the first."""
    for rate, losses in ((0.1, (0.5, 0.4, 0.6, 0.9)), (0.2, (0.3, 0.3, 0.3))):
        for seed, loss in enumerate(losses):
            metrics = {"test/accuracy": 1 - loss / 10, "test/loss": loss}
            write_run(training__learning_rate=rate, seed=seed, metrics=metrics)


def test_only_keys_that_differ_are_shown_and_seeds_make_no_variant(write_run: WriteRun, tmp_path: Path) -> None:
    two_variants(write_run)
    found = compare_runs("base", output_dir=tmp_path)
    assert found.keys == ("training.learning_rate",)
    assert [(v.label, v.value("training.learning_rate"), len(v.counted)) for v in found.variants] == [
        ("A", 0.2, 3),
        ("B", 0.1, 4),
    ]


def test_where_a_run_lies_makes_no_variant(write_run: WriteRun, tmp_path: Path) -> None:
    paths = [
        write_run(experiment="base", output_dir=directory, sweep_id=sweep, seed=seed, metrics={"test/loss": 0.1})
        for seed, (directory, sweep) in enumerate([("outputs", None), ("elsewhere", "first"), (".", "second")])
    ]
    (variant,) = compare_runs(*paths).variants
    assert len(variant.counted) == 3


def test_a_key_that_only_one_config_has_makes_a_variant(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(metrics={"test/loss": 0.1})
    write_run(metrics={"test/loss": 0.2}, model__extra=None)
    found = compare_runs("base", output_dir=tmp_path)
    assert found.keys == ("model.extra",)
    assert len(found.variants) == 2


def test_folds_are_repetitions_like_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    for fold in range(4):
        for rate in (0.1, 0.2):
            write_run(data__fold=fold, training__learning_rate=rate, metrics={"test/loss": fold * rate})
    found = compare_runs("base", output_dir=tmp_path)
    assert found.keys == ("training.learning_rate",)
    assert found.pair("A", "B").difference("test/loss") == mean_interval([f * 0.2 - f * 0.1 for f in range(4)])


def test_what_is_exported_besides_makes_no_variant(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in range(2):
        write_run(seed=seed, export__onnx=bool(seed), metrics={"test/loss": 0.5})
    assert compare_runs("base", output_dir=tmp_path).keys == ()


def test_means_and_deviations_are_over_the_seeds_that_are_complete(write_run: WriteRun, tmp_path: Path) -> None:
    two_variants(write_run)
    write_run(training__learning_rate=0.1, seed=9, metrics={"test/loss": 99.0}, status="failed")
    write_run(training__learning_rate=0.1, seed=8, metrics={"test/loss": 99.0}, status="running")
    _, variant = compare_runs("base", output_dir=tmp_path).variants
    values = [0.5, 0.4, 0.6, 0.9]
    summary = variant.summary("test/loss")
    assert summary is not None
    assert summary == mean_interval(values)
    assert (summary.mean, summary.std) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert len(variant.runs) == 6


def test_runs_that_do_not_count_are_listed_with_their_reason(
    write_run: WriteRun, printed: Callable[..., Printed]
) -> None:
    two_variants(write_run)
    failed = write_run(training__learning_rate=0.3, status="failed", reason="the loss is not finite at step 7")
    unknown = write_run(training__learning_rate=0.1, seed=5, status=None)
    empty = write_run(training__learning_rate=0.1, seed=6)
    out, _ = printed("base")
    assert out.startswith("10 runs, 7 counted, in 3 variants;")
    listed = out.partition("Not counted\n")[2]
    assert re.search(rf"{failed} +C +\d+  failed: the loss is not finite at step 7\n", listed)
    assert re.search(rf"{unknown} +B +5  unknown\n", listed)
    assert re.search(rf"{empty} +B +6  completed, but without figures in metrics.json\n", listed)
    assert re.search(r"\nC +0\.3 +0 +– +–\n", out)  # a variant of which no run is complete is not left out


def test_a_seed_that_ran_twice_counts_once_and_is_named(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    two_variants(write_run)
    config = {"training__learning_rate": 0.2, "seed": 1}
    later = write_run(**config, run_id="a", metrics={"test/loss": 0.35}, started="2026-11-25T00:00:00+00:00")
    out, _ = printed("base")
    assert "8 runs, 7 counted" in out
    assert f"a later run has the same seed: {later.name}" in out
    assert re.search(r"\nA +0\.2 +3 +0\.3167 ± 0\.0289 ", out)


def test_a_pair_is_compared_over_common_seeds_with_an_interval(
    write_run: WriteRun, printed: Callable[..., Printed], tmp_path: Path
) -> None:
    two_variants(write_run)
    pair = compare_runs("base", output_dir=tmp_path).pair("A", "B")
    difference = pair.difference("test/loss")
    deltas = [0.5 - 0.3, 0.4 - 0.3, 0.6 - 0.3]
    margin = student_quantile(2) * float(np.std(deltas, ddof=1)) / np.sqrt(3)
    assert difference is not None
    assert difference.num == 3
    assert difference.mean == pytest.approx(0.2)
    assert (difference.low, difference.high) == (pytest.approx(0.2 - margin), pytest.approx(0.2 + margin))
    out, _ = printed("base")
    assert "B − A, paired over 3 common seeds (0, 1, 2)\n" in out
    assert re.search(r"\ntest/loss +\+0\.2000 +−0\.0484 to \+0\.4484 +3\n", out)
    assert re.search(r"\ntest/accuracy +−2\.00 points +−4\.48 to \+0\.48 +3\n", out)


def test_pairs_of_one_seed_or_none_say_so(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    write_run(training__learning_rate=0.1, seed=1, metrics={"test/loss": 0.1})
    write_run(training__learning_rate=0.2, seed=1, metrics={"test/loss": 0.2})
    out, _ = printed("base")
    assert re.search(r"\ntest/loss +\+0\.1 +none +1\n\nn < 2: one pair of runs has no interval", out)
    write_run(training__learning_rate=0.3, seed=2, metrics={"test/loss": 0.3})
    assert "−" not in printed("base")[0].replace("n − 1", "")  # three variants: no pair unless one is asked for
    assert "C − A: no paired comparison, since no seed is complete in both." in printed("base", "--pair", "A", "C")[0]


def test_the_twin_of_the_monitor_decides_the_order(write_run: WriteRun, tmp_path: Path) -> None:
    two_variants(write_run)
    found = compare_runs("base", output_dir=tmp_path)
    assert (found.metric, found.mode, found.metrics) == ("test/loss", "min", ("test/loss", "test/accuracy"))
    for path in (tmp_path / "experiments" / "base").iterdir():
        config = json.loads(RunDirectory(path).config.read_text())
        config["training"] |= {"monitor": "val/accuracy", "monitor_mode": "max"}
        RunDirectory(path).config.write_text(json.dumps(config))
    found = compare_runs("base", output_dir=tmp_path)
    assert (found.metric, found.mode) == ("test/accuracy", "max")
    assert [variant.value("training.learning_rate") for variant in found.variants] == [0.2, 0.1]


def test_another_metric_can_decide_the_order(write_run: WriteRun, tmp_path: Path) -> None:
    for rate, (score, loss) in {0.1: (0.9, 1.0), 0.2: (0.5, 0.1)}.items():
        write_run(training__learning_rate=rate, metrics={"test/loss": loss, "test/f1": score, "test/oddity": score})

    def order(**options: Any) -> list[float]:
        found = compare_runs("base", output_dir=tmp_path, **options)
        return [variant.value("training.learning_rate") for variant in found.variants]

    assert order() == [0.2, 0.1]
    assert order(metric="test/f1") == order(metric="f1") == [0.1, 0.2]
    assert order(metric="oddity", mode="max") == [0.1, 0.2]
    assert order(metric="oddity", mode="min") == [0.2, 0.1]
    with pytest.raises(InputError, match="add --mode max or min"):
        order(metric="oddity")
    with pytest.raises(InputError, match=r"no run that is complete has 'test/lss'; did you mean `test/loss`"):
        order(metric="test/lss")


def test_labels_are_letters_however_many(write_run: WriteRun, tmp_path: Path) -> None:
    for number in range(30):
        write_run(training__learning_rate=number / 10, metrics={"test/loss": number})
    variants = compare_runs("base", output_dir=tmp_path).variants
    assert [variant.label for variant in variants][:3] == ["A", "B", "C"]
    assert [variant.label for variant in variants][25:28] == ["Z", "AA", "AB"]
    with pytest.raises(InputError, match="there is no variant 'AE'; the labels here are A to AD"):
        compare_runs("base", output_dir=tmp_path).pair("A", "AE")
    with pytest.raises(InputError, match="expected two variants, got 'A' twice"):
        compare_runs("base", output_dir=tmp_path).pair("A", "A")


def test_a_damaged_run_is_named_and_left_out(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    two_variants(write_run)
    damaged = write_run()
    RunDirectory(damaged).config.write_text('{"seed": 1')
    results = write_run(metrics={})
    RunDirectory(results).metrics.write_text("[]")
    no_run = damaged.parent / "copy"
    no_run.mkdir()
    (damaged.parent / "sweeps" / "one").mkdir(parents=True)
    out, err = printed("base")
    assert out.startswith("7 runs, 7 counted, in 2 variants;")
    assert [line.partition(" is left out: ")[0] for line in err.splitlines()] == [
        f"Warning: {path}" for path in (no_run, *sorted([damaged, results]))
    ]


def test_a_config_with_odd_values_is_compared_like_any(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    for number, value in enumerate([float("nan"), float("inf"), [1, {"a": 2}], {}, True, 1, 1.0, "1", None]):
        write_run(model__extra=value, seed=[number], training=None, metrics={"test/loss": number, "test/bad": "x"})
    out, err = printed("base")
    assert err == ""
    assert out.startswith("9 runs, 9 counted, in 9 variants")


def test_what_is_not_there_is_said_and_exits_with_2(write_run: WriteRun, tmp_path: Path) -> None:
    two_variants(write_run)
    (tmp_path / "empty").mkdir()
    (tmp_path / "experiments" / "none" / "sweeps").mkdir(parents=True)
    messages = {
        "bas": "bas: there is no run directory and no experiment of this name; did you mean `base`?",
        "a b": "a b: there is no run directory and no experiment of this name; known here: base, none",
        str(tmp_path / "empty"): f"{tmp_path / 'empty'} is left out: it is not the directory of a run",
        "none": "there is no run to read in: none",
    }
    for name, message in messages.items():
        arguments = [sys.executable, str(COMPARE), name, "--output-dir", str(tmp_path)]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_runs_are_found_by_directory_by_experiment_and_by_the_directory_of_one(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_variants(write_run)
    experiment = tmp_path / "experiments" / "base"
    (experiment / "sweeps").mkdir()
    (tmp_path / "link").symlink_to(experiment / "run_0")
    monkeypatch.chdir(experiment)

    def num_runs(*names: object) -> int:
        found = compare_runs(*map(str, names), output_dir=tmp_path)
        return sum(len(variant.runs) for variant in found.variants)

    assert num_runs("base") == num_runs(experiment) == num_runs(".") == num_runs(*experiment.iterdir()) == 7
    assert num_runs("run_0", experiment / "run_1") == 2
    assert num_runs("run_0", experiment / "run_0", tmp_path / "link", "base") == 7  # none counts twice


def test_csv_holds_every_digit_and_reads_back_as_it_was(
    write_run: WriteRun, printed: Callable[..., Printed], tmp_path: Path
) -> None:
    for seed, loss in enumerate([0.1, 0.2, 0.4]):
        write_run(seed=seed, model__name=HOSTILE, metrics={"test/loss": loss})
    write_run(seed=2, model__name="plain", metrics={"test/loss": 1.0})
    first, second = csv.DictReader(printed("base", "--format", "csv")[0].splitlines(keepends=True))
    expected = mean_interval([0.1, 0.2, 0.4])
    assert first["model.name"] == HOSTILE
    assert [float(first[f"test/loss {name}"]) for name in ("mean", "std", "n", "low", "high")] == list(expected)
    assert (second["model.name"], second["test/loss std"], second["test/loss n"]) == ("plain", "", "1")

    rows = list(csv.DictReader(printed("base", "--format", "csv", "--runs")[0].splitlines(keepends=True)))
    assert [(row["variant"], row["seed"], row["test/loss"]) for row in rows][:2] == [
        ("A", "0", "0.1"),
        ("A", "1", "0.2"),
    ]
    assert all(RunDirectory(row["run"]).config.exists() for row in rows)

    (pair,) = csv.DictReader(printed("base", "--format", "csv", "--pair", "A", "B")[0].splitlines(keepends=True))
    assert list(pair.values()) == ["test/loss", "A", "B", "0.6", "", "1", "", ""]


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "@SUM(A1)", "-1+1", "\t=1"])
def test_no_text_is_a_formula_in_csv(write_run: WriteRun, printed: Callable[..., Printed], text: str) -> None:
    write_run(model__name=text, metrics={"test/loss": -1.0})
    write_run(model__name="-3", metrics={"test/loss": 2.0})
    rows = list(csv.DictReader(printed("base", "--format", "csv")[0].splitlines(keepends=True)))
    assert [row["model.name"] for row in rows] == [f"'{text}", "-3"]
    assert rows[0]["test/loss mean"] == "-1.0"


def test_no_label_leaves_its_cell_in_markdown(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    write_run(model__name=HOSTILE, metrics={"test/loss": 0.1, "test/<i>|": 1.0})
    write_run(model__name="plain", metrics={"test/loss": 0.2})
    out, _ = printed("base", "--format", "markdown", "--runs")
    tokens = MarkdownIt("commonmark").enable("table").parse(out)
    assert {token.type for token in tokens if token.type.endswith("_open")} == {
        f"{name}_open" for name in ("paragraph", "table", "thead", "tbody", "tr", "th", "td")
    }
    inner = [child for token in tokens if token.type == "inline" for child in token.children or []]
    assert {child.type for child in inner} <= {"text", "strong_open", "strong_close", "text_special"}
    text = " ".join("".join(child.content for child in token.children or []) for token in tokens if token.children)
    assert 'a|b`c`,"x" =1+1[31m<b>&amp;</b> \\% $x$ {y} #1 ~^_ $^*[link](javascript:1)' in text
    assert "test/<i>|" in text


def test_no_label_leaves_its_cell_in_latex(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    write_run(model__name=HOSTILE, metrics={"test/loss": 0.1})
    write_run(model__name="[x]--y", metrics={"test/loss": 0.2})
    out, _ = printed("base", "--format", "latex", "--runs")
    escaped = re.sub(r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar)\{\}", "", out)
    escaped = re.sub(r"\\[#$%&_{}]", "", escaped)
    assert not set("#%~^|<>") & set(escaped)
    tabulars = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n\\toprule\n(.*?)\\bottomrule", escaped, re.DOTALL)
    assert len(tabulars) == 3
    for alignment, body in tabulars:
        rows = [row for row in body.split("\n") if row and row != r"\midrule"]
        assert all(row.endswith(r" \\") and row.count("&") == len(alignment) - 1 for row in rows)
        assert not any(row.startswith(("[", "*")) for row in rows)
    assert "{[}x{]}-{}-y" in out


def test_no_label_reaches_the_terminal_as_a_control_sequence(
    write_run: WriteRun, printed: Callable[..., Printed]
) -> None:
    write_run(model__name=HOSTILE, metrics={"test/loss": 0.1, "test/\x1b[1m": 1.0})
    write_run(model__name="plain", reason="\x1b]0;x\x07", status="failed")
    out, _ = printed("base", "--runs")
    assert not {character for character in out if not character.isprintable()} - {"\n"}
    assert "\u202e" not in out


def test_columns_line_up_also_where_characters_are_wide(write_run: WriteRun, printed: Callable[..., Printed]) -> None:
    from rich.cells import cell_len

    for name in ("数字", "digits"):
        write_run(model__name=name, metrics={"test/loss": 0.1})
    out, _ = printed("base")
    first, second = (line for line in out.splitlines() if re.match("[AB]  ", line))
    assert cell_len(first) == cell_len(second)


def test_a_table_wider_than_the_terminal_goes_on_below(
    write_run: WriteRun, printed: Callable[..., Printed], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rate in (0.1, 0.2):
        write_run(training__learning_rate=rate, metrics={f"test/metric_{i}": rate for i in range(9)})
    whole, _ = printed("base")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    narrow, _ = printed("base")
    assert max(map(len, whole.splitlines()[2:])) > 100
    assert max(map(len, narrow.splitlines())) <= 60
    assert sum(line.startswith("variant ") for line in narrow.splitlines()) > 1
    assert sorted(set(re.findall(r"metric_\d", narrow))) == [f"metric_{i}" for i in range(9)]


def test_the_suffix_of_the_file_decides_the_format(
    write_run: WriteRun, printed: Callable[..., Printed], tmp_path: Path
) -> None:
    two_variants(write_run)
    for suffix, format_ in {"csv": "csv", "md": "markdown", "tex": "latex", "txt": "table", "dat": "table"}.items():
        path = tmp_path / f"comparison.{suffix}"
        assert printed("base", "--output", path) == (f"{path}\n", "")
        assert path.read_text() == printed("base", "--format", format_)[0]
    with pytest.raises(InputError, match=r"--output: .* cannot be written: No such file or directory"):
        printed("base", "--output", tmp_path / "missing" / "comparison.csv")


def test_a_real_run_is_compared_by_its_own_figures(finished_run: Path) -> None:
    (variant,) = compare_runs(finished_run).variants
    results = json.loads(RunDirectory(finished_run).metrics.read_text())["metrics"]
    assert {name: variant.summary(name) for name in results} == {n: mean_interval([v]) for n, v in results.items()}


def test_checkpoints_are_not_read(finished_run: Path, tmp_path: Path) -> None:
    needed = tmp_path / "run"
    source = RunDirectory(finished_run)
    (needed / "results").mkdir(parents=True)
    for path in (source.config, source.status, source.metrics):
        shutil.copyfile(path, needed / path.relative_to(finished_run))
    (whole,), (bare,) = compare_runs(finished_run).variants, compare_runs(needed).variants
    assert isinstance(whole, Variant)
    assert whole.summary("test/loss") == bare.summary("test/loss")


def test_neither_torch_nor_hydra_is_imported(finished_run: Path, tmp_path: Path) -> None:
    program = (
        f"import runpy, sys; sys.argv = ['compare.py', {str(finished_run)!r}]\n"
        f"try: runpy.run_path({str(COMPARE)!r}, run_name='__main__')\n"
        "finally: assert not {'torch', 'hydra', 'numpy', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_work_for_one_run_does_not_grow_with_their_number(finished_run: Path, tmp_path: Path) -> None:
    def calls(num_runs: int) -> int:
        make_runs(finished_run, tmp_path, num_runs, f"runs_{num_runs}")
        return num_calls(lambda: str(compare_runs(f"runs_{num_runs}", output_dir=tmp_path).variants[0].label))

    calls(10)  # what is done once for the process
    few, many = calls(50), calls(250)
    assert many / 250 < 1.1 * few / 50
