import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import CONFIG_FILES, CONFIGS, TINY, TRAIN

from reprise.cli.command_line import run_command
from reprise.cli.hydra_command import run_hydra
from reprise.config.composed import Composed
from reprise.errors import ConfigError, InputError, Interrupted, Problem
from reprise.runs.train import train

Answer = tuple[int, str, str]


@pytest.fixture
def answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Return a function that calls a verb in an empty directory and returns exit code, stdout and stderr."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def call(function: Callable[[], object]) -> Answer:
        handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
        try:
            with pytest.raises(SystemExit) as caught:
                function()
        finally:
            logging.captureWarnings(False)
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def command(answer: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that gives arguments to a task, and returns what the task got, exit code, stdout and stderr."""

    def call(*arguments: str, configs: Path = CONFIGS, task: Callable[..., object] | None = None) -> Any:
        got: list[Composed] = []
        argv = ["scripts/train.py", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        result = answer(lambda: run_hydra(task or got.append, configs))
        assert sys.argv == argv
        return got, *result

    return call


MISTAKES = {
    "experiment=bas": ("experiment", "there is no option 'bas'; did you mean `base`?"),
    "experiment=null": ("experiment", "expected the name of an option, got null; known here: "),
    "training=3": ("training", "expected the name of an option, got 3; known here: default; ~training leaves"),
    "callbacks=[default,early_stoping]": (
        "callbacks",
        "there is no option 'early_stoping'; did you mean `early_stopping`?",
    ),
    "seeed=1": ("seeed", "unknown; did you mean `seed`?"),
    "modl=perceptron": ("modl", "unknown; did you mean `model`?"),
    "+training.learningrate=1": ("training.learningrate", "unknown; did you mean `training.learning_rate`?"),
    "seed=4294967296": ("seed", "expected an integer ≥ 0 and ≤ 4294967295, got 4294967296"),
    "training.batch_size=many": ("training.batch_size", "expected an integer ≥ 1, got 'many'"),
    "training.batch_size=": ("training.batch_size", "expected an integer ≥ 1, got ''"),
    "training.learning_rate=???": ("training.learning_rate", "missing: expected a number > 0; set it in a config file"),
    "training.optimizer=adam": ("training.optimizer", "expected a mapping, got 'adam'; an option is chosen as"),
    "training.optimizer.momentum=1": (
        "training.optimizer.momentum",
        "reprise.optimization.optimizers.AdamW takes no such argument; known",
    ),
    "training.optimizer.amsgrad=3": ("training.optimizer.amsgrad", "expected true or false, got 3"),
    "training.monitor=val/acuracy": ("training.monitor", "no metric produces 'val/acuracy'; did you mean"),
    "data._target_=os.system": ("data._target_", "'os.system' is in no trusted package: "),
    "data.shiftprobability=1": ("data.shiftprobability", "tiny.images.load_images takes no such argument; did"),
    "callbacks.progress.secs=1": ("callbacks.progress.secs", "reprise.callbacks.progress.Progress takes no such"),
    "callbacks.modelcard.x=1": (
        "callbacks.modelcard",
        "there is none of this name, and a new one needs a _target_; did",
    ),
    "callbacks.modelcard=null": (
        "callbacks.modelcard",
        "there is none to remove; did you mean `callbacks.model_card`?",
    ),
    "~callbacks.modelcard": (
        "callbacks.modelcard",
        "cannot be removed: unknown; did you mean `~callbacks.model_card`?",
    ),
    "card.authors=${card.author}": ("card.authors", "${card.author} leads nowhere: unknown; did you mean"),
    "run_id=../elsewhere": ("run_id", "expected at most 128 letters, digits and . _ = , + - of which the first"),
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_explained_under_its_key_and_leaves_nothing(command: Any, override: str) -> None:
    key, message = MISTAKES[override]
    got, code, out, err = command("experiment=base", override)
    assert (got, code, out) == ([], 2, "")
    assert err.startswith(f"Error: 1 problem in the config\n\n  {key}  (command line: {override.lstrip('+')}") or (
        override.startswith("+") and f"(command line: {override})" in err
    )
    assert f"\n      {message}" in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense: expected KEY=VALUE"),
        (["=3"], "=3: expected KEY=VALUE"),
        (["data.name=a=b"], "data.name=a=b: expected KEY=VALUE; a value with special characters needs quotes"),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'"),
        (["+seed=1"], "Could not append to config. An item is already at 'seed'."),
        (["hydra.jop.chdir=true"], "Could not override 'hydra.jop.chdir'."),
        (["--config-name", "nothing"], "Cannot find primary config 'nothing'"),
        (["-m", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
        (["-m", "--info", "all"], "Only one of --run, --multirun, --cfg, --info"),
        (["-m", "--resolve"], "The --resolve flag can only be used in conjunction with --cfg or --help"),
        (["-m", "seed=range(3,1)"], "seed=range(3,1): expected a sweep over at least one value, got none"),
        (["-m", "training.learning_rate=interval(1,2)"], "training.learning_rate=interval(1,2): a grid needs values"),
        (["-m", "run_id=a,b"], "1 problem in the config"),
        (["sweep_id=a"], "sweep_id: names a sweep, and this is a single run; add -m"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_message(command: Any, arguments: list[str], message: str) -> None:
    got, code, out, err = command(*arguments, "experiment=base")
    assert (got, code, out) == ([], 2, "")
    assert err.startswith(f"Error: {message}")
    assert "Traceback" not in err
    assert list(Path().iterdir()) == []


def test_all_problems_are_shown_together(command: Any) -> None:
    _, code, _, err = command(
        *("experiment=base", "training.learningrate=1", "training.batch_size=x", "data.nope=1", "seeed=1"),
        *("~callbacks.modelcard", "training.optimizer.amsgrad=true", "model.hidden_siz=3"),
    )
    assert code == 2
    assert err.startswith("Error: 6 problems in the config\n")
    assert re.findall(r"^  (\S+)  \(command line: ", err, re.MULTILINE) == [
        *(
            "callbacks.modelcard",
            "data.nope",
            "model.hidden_siz",
            "training.batch_size",
            "training.learningrate",
            "seeed",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {batch_size: [1, 2}\n", "{file}, line 2, column 29: not YAML: expected ',' or ']', but got '}}'"),
        ("seed:\n\t1\n", "{file}, line 3, column 1: not YAML: found character '\\t' that cannot start any token"),
        ("seed: 1\nseed: 2\n", "{file}, line 3, column 1: not YAML: found duplicate key seed"),
        ("3\n", "{file}: cannot be read as a config: Invalid loaded object type: int"),
        ("seed: ${\n", "seed: no viable alternative at input '${{'"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_config_is_told_with_its_line_or_key(
    command: Any, tmp_path: Path, text: str, message: str
) -> None:
    configs = configs_with_experiment(tmp_path, text)
    for arguments in (["experiment=mine"], ["experiment=mine", "--cfg", "job"], ["-m", "experiment=mine", "seed=1,2"]):
        _, code, _, err = command(*arguments, configs=configs)
        assert (code, err) == (2, f"Error: {message.format(file=configs / 'experiment' / 'mine.yaml')}\n")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("defaults: [mine]", "RecursionError"),
        ("a: &a [*a]", "RecursionError"),
        ("defaults: [{3: 4}]", "AssertionError"),
    ],
)
def test_a_file_that_hydra_does_not_expect_is_one_message(
    command: Any, tmp_path: Path, text: str, error: str, arguments: list[str]
) -> None:
    _, code, _, err = command(*arguments, "experiment=mine", configs=configs_with_experiment(tmp_path, text))
    assert code == 2
    assert err.startswith(f"Error: Hydra cannot compose a config of the files and overrides given: {error}")
    assert list(Path().iterdir()) == []


def configs_with_experiment(tmp_path: Path, text: str) -> Path:
    """Return a directory of config files with an experiment `mine`."""
    configs = tmp_path / "configs"
    (configs / "experiment").mkdir(parents=True)
    for path in CONFIGS.iterdir():
        if path.name != "experiment":
            (configs / path.name).symlink_to(path)
    (configs / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    return configs


def test_an_argument_that_a_target_takes_needs_no_file_that_lists_it(command: Any) -> None:
    got, code, _, err = command("experiment=base", "training.optimizer.amsgrad=true", "seed=7", "run_id=1_0")
    assert (code, err) == (0, "")
    (composed,) = got
    assert composed.config.training.optimizer["amsgrad"] is True
    assert (composed.config.seed, composed.config.run_id) == (7, "1_0")
    assert composed.overrides == ("experiment=base", "++training.optimizer.amsgrad=true", "seed=7", "run_id='1_0'")


def test_a_sweep_runs_each_job_with_texts_as_typed(command: Any) -> None:
    got, code, _, err = command(
        *("-m", "experiment=base", "model.name=1,1e5,b", "training.optimizer.amsgrad=true,false"),
        "~callbacks.model_card",
    )
    assert (code, err) == (0, "")
    assert [(c.config.model.name, c.config.training.optimizer["amsgrad"]) for c in got] == [
        *(("1", True), ("1", False), ("1e5", True), ("1e5", False), ("b", True), ("b", False)),
    ]
    assert all("model_card" not in composed.config.callbacks for composed in got)


@pytest.mark.parametrize(
    "override",
    [
        "seed=1,2,x",
        "training.optimizer.amsgrad=true,3",
        "model=perceptron,x",
        "training.learning_rate=choice(1,-1)",
    ],
)
def test_a_sweep_with_one_bad_value_stops_before_anything_is_created(command: Any, override: str) -> None:
    got, code, _, err = command("-m", "experiment=base", override)
    assert (got, code) == ([], 2)
    assert err.startswith("Error: 1 problem in the config\n")
    assert list(Path().iterdir()) == []


def test_the_composed_config_can_be_printed(command: Any) -> None:
    got, code, out, _ = command("experiment=base", "run_id=007", "--cfg", "job", "--resolve")
    assert (got, code) == ([], 0)
    values = yaml.safe_load(out)
    assert values["experiment_name"] == "base"
    assert values["run_id"] == "007"
    assert values["callbacks"]["metrics_log"]["every_steps"] == values["training"]["log_every_steps"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("override", ["training.learningrate=1", "card.authors=${nobody}", "experiment=bas"])
def test_printing_a_config_that_cannot_be_is_the_same_error(command: Any, override: str) -> None:
    _, code, out, err = command("experiment=base", override, "--cfg", "job", "--resolve")
    assert (code, out) == (2, "")
    assert err.startswith("Error: 1 problem in the config\n")


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_errors_of_the_run_itself_are_not_taken_for_mistakes_of_the_config(command: Any, multirun: list[str]) -> None:
    def task(composed: Composed) -> None:
        raise ValueError("in the middle of the run")

    _, code, _, err = command(*multirun, "experiment=base", task=task)
    assert code == 1
    if multirun:  # one bad job does not take the sweep down: it is in the summary
        (summary,) = Path().rglob("summary.md")
        err = summary.read_text()
    assert "ValueError: in the middle of the run" in err


def test_a_run_sees_the_arguments_as_they_were_typed(command: Any) -> None:
    seen: list[str] = []
    command("experiment=base", "run_id=1_0", "training.optimizer.amsgrad=true", task=lambda _: seen.extend(sys.argv))
    assert seen == ["scripts/train.py", "experiment=base", "run_id=1_0", "training.optimizer.amsgrad=true"]


def test_variables_that_the_command_sets_for_its_job_are_set_while_it_trains(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_TEST", "before")
    seen: list[str] = []
    command(
        *("experiment=base", "+hydra.job.env_set.REPRISE_TEST=given"),
        task=lambda _: seen.append(os.environ["REPRISE_TEST"]),
    )
    assert seen == ["given"]


def test_a_run_says_where_it_is_on_the_last_line_and_refuses_another_config(command: Any) -> None:
    def task(composed: Composed) -> None:
        print(train(composed))

    arguments = [*TINY, "run_id=1_0", "training.max_epochs=1"]
    for _ in range(2):
        _, code, out, _ = command(*arguments, task=task)
        assert (code, out.splitlines()[-1]) == (0, "outputs/experiments/base/1_0")
    assert "nothing to do" in out
    _, code, _, err = command(*arguments, "seed=1", task=task)
    assert code == 2
    assert err == (
        "Error: the run '1_0' exists with another config; choose another run_id, or change it with "
        "scripts/resume.py outputs/experiments/base/1_0\n\n"
        "  seed\n      42 there, 1 asked for\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("key: is wrong"), 2, "Error: key: is wrong\n"),
        (
            ConfigError([Problem("a.b", "is wrong\nvery", "some file")]),
            2,
            "Error: 1 problem in the config\n\n  a.b  (some file)\n      is wrong\n      very\n",
        ),
        (Interrupted("by SIGTERM after step 3, saved"), 75, "Stopped by SIGTERM after step 3, saved. The same command"),
        (KeyboardInterrupt(), 75, "Stopped.\n"),
        (RuntimeError("a bug"), 1, "Traceback"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    answer: Callable[..., Answer], error: BaseException, code: int, message: str
) -> None:
    def fail() -> None:
        raise error

    got, _, err = answer(lambda: run_command(fail))
    assert got == code
    assert err.startswith(message)
    assert answer(lambda: run_command(lambda: None)) == (0, "", "")


def run_script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_help_is_readable_and_imports_neither_torch_nor_the_examples(tmp_path: Path, multirun: list[str]) -> None:
    shown = run_script("-X", "importtime", str(TRAIN), "--help", *multirun, cwd=tmp_path)
    assert shown.returncode == 0
    for line in (
        "  python scripts/train.py experiment=base                             one run",
        "  python scripts/train.py -m experiment=base seed=1,2,3               a sweep",
        "Groups (GROUP=OPTION)",
        "experiment: base, language_model, text_classification",
        f"callbacks: {', '.join(sorted(Path(name).stem for name in CONFIG_FILES if name.startswith('callbacks/')))}",
        "training/optimizer: adamw, sgd",
        "  learning_rate: 0.0001",
        "Exit codes: 0 done; 1 failed; 2 the input is wrong, nothing was created; 75 stopped by a signal after saving.",
    ):
        assert line in shown.stdout.splitlines()
    imported = set(re.findall(r"\|\s+([\w.]+)$", shown.stderr, re.MULTILINE))
    assert "hydra.main" in imported
    assert not {"torch", "transformers", "sklearn", "reprise.runs.train"} & imported
    assert list(tmp_path.iterdir()) == []


def test_the_script_itself_answers_mistakes_with_exit_code_2_and_nothing_on_disk(tmp_path: Path) -> None:
    shown = run_script(str(TRAIN), "experiment=base", "output_dir=made", "training.learningrate=1", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == (
        "Error: 1 problem in the config\n\n"
        "  training.learningrate  (command line: training.learningrate=1)\n"
        "      unknown; did you mean `training.learning_rate`?\n"
    )
    assert list(tmp_path.iterdir()) == []
