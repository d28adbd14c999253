"""Where a config value comes from."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import CONFIGS, ENGINE_CONFIGS, EXPLAIN, REPOSITORY, TESTS, compose

from reprise.cli.composing import compose_and_validate
from reprise.cli.explaining import Explanation, explain_key
from reprise.config.checking import show
from reprise.errors import ConfigError, InputError
from reprise.files.differences import compare


def explained(key: str, *overrides: str, configs: Path = CONFIGS) -> Explanation:
    """Return the explanation of one key, without those of the keys it is taken from."""
    return explain_key(configs, key, overrides)[0]


def place(file: str) -> Path:
    return (REPOSITORY if file.startswith("src/") else TESTS) / file


def line(file: str, text: str) -> str:
    """Return FILE:LINE of the only line that begins with `text`."""
    lines = place(file).read_text().splitlines()
    (number,) = [i for i, found in enumerate(lines, start=1) if found.strip().startswith(text)]
    return f"{file}:{number}"


def test_files_and_overrides_stand_in_the_order_in_which_they_count() -> None:
    found = explained("training.learning_rate", "experiment=base", "training.learning_rate=0.002")
    assert (found.key, found.value) == ("training.learning_rate", "0.002")
    assert [tuple(setting) for setting in found.settings] == [
        ("0.0001", line("configs/training/default.yaml", "learning_rate:"), "chosen in configs/train.yaml"),
        ("0.004", line("configs/experiment/base.yaml", "learning_rate:"), "chosen by experiment=base"),
        ("0.002", "command line: training.learning_rate=0.002", ""),
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=text_classification", "model=bert_tiny", "training.scheduler=null", "++data.seed=1"),
        ("experiment=language_model", "callbacks=[default,early_stopping]", "~callbacks.progress", "debug=short"),
    ],
)
def test_the_last_setting_of_every_key_is_the_value_of_the_config(overrides: tuple[str, ...]) -> None:
    sections = ("callbacks", "data", "model", "training")
    found = [explanation for section in sections for explanation in explain_key(CONFIGS, section, overrides)]
    values = {explanation.key: explanation.value for explanation in found}
    assert len(values) > 35
    for explanation in found:
        last = explanation.settings[-1].value
        taken_from = re.fullmatch(r"'\$\{([\w.]+)\}'", last)
        assert explanation.value == (values[taken_from[1]] if taken_from else last), explanation.key


def test_values_are_those_that_a_run_would_have() -> None:
    overrides = ("experiment=base", "model.dropout=0.25", "callbacks.progress=null", "training.warmup_steps=7")
    config = {leaf.key: leaf.second for leaf in compare({}, compose(*overrides).config.to_dict())}
    for section in ("model", "callbacks", "training"):
        for explanation in explain_key(CONFIGS, section, overrides):
            assert explanation.value == show(config[explanation.key])


def test_every_line_named_is_where_the_key_stands() -> None:
    num_lines = 0
    for explanation in explain_key(CONFIGS, "training", ("experiment=base",)):
        for setting in explanation.settings:
            file, _, number = setting.place.partition(":")
            text = place(file).read_text().splitlines()[int(number) - 1]
            assert text.strip().startswith(f"{explanation.key.rpartition('.')[2]}:")
            num_lines += 1
    assert num_lines > 20


def test_a_value_taken_from_another_key_is_followed_there() -> None:
    overrides = ("experiment=base", "training.checkpoint_every_epochs=5")
    found = explain_key(CONFIGS, "callbacks.checkpoints.every_epochs", overrides)
    assert [(each.key, each.value) for each in found] == [
        ("callbacks.checkpoints.every_epochs", "5"),
        ("training.checkpoint_every_epochs", "5"),
    ]
    assert found[0].settings[-1].value == "'${training.checkpoint_every_epochs}'"
    assert found[1].settings[-1].place == "command line: training.checkpoint_every_epochs=5"


@pytest.mark.parametrize(
    ("override", "last"),
    [
        ("~callbacks.progress", "removed"),
        ("callbacks.progress=null", "removed (callbacks.progress: null)"),
    ],
)
def test_a_removed_key_names_what_removed_it(override: str, last: str) -> None:
    found = explained("callbacks.progress.seconds", "experiment=base", override)
    assert found.value == last
    assert [setting.place for setting in found.settings] == [
        line("src/reprise/configs/callbacks/default.yaml", "seconds:"),
        f"command line: {override}",
    ]


def test_a_file_that_removes_a_section_is_named(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    (configs / "experiment" / "quiet.yaml").write_text("# @package _global_\ncallbacks:\n  progress: null\n")
    found = explained("callbacks.progress.seconds", "experiment=quiet", configs=configs)
    assert found.settings[-1] == (
        "removed (callbacks.progress: null)",
        "configs/experiment/quiet.yaml:3",
        "chosen by experiment=quiet",
    )


def test_a_key_that_no_file_sets_has_the_default_of_the_schema(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    (configs / "training" / "short.yaml").write_text("max_epochs: 2\n")
    found = explained("training.gradient_clip", "training=short", configs=configs)
    assert (found.value, list(found.settings)) == ("1.0", [("1.0", "src/reprise/config/schema.py", "")])


def test_a_chosen_file_names_what_chose_it() -> None:
    found = explained("training.scheduler._target_", "experiment=base", "training/scheduler=linear")
    assert [setting.chosen_by for setting in found.settings] == ["chosen by training/scheduler=linear"]
    default = explained("training.scheduler._target_", "experiment=base")
    assert [setting.chosen_by for setting in default.settings] == ["chosen in configs/experiment/base.yaml"]


def test_wrong_keys_and_overrides_are_named() -> None:
    with pytest.raises(InputError, match=r"did you mean `training\.learning_rate`"):
        explained("training.learnin_rate", "experiment=base")
    with pytest.raises(ConfigError, match="there is no option 'bas'; did you mean `base`"):
        explained("seed", "experiment=bas")
    with pytest.raises(ConfigError, match="expected the name of an option, got 1"):
        explained("seed", "experiment=base", "model=[1,2]")  # at which Hydra raises a TypeError
    with pytest.raises(InputError, match="Ambiguous value"):
        explained("seed", "experiment=base", "seed=1,2")


def test_the_command_prints_the_chain_and_imports_no_torch(tmp_path: Path) -> None:
    program = (
        f"import runpy, sys; sys.argv = ['explain.py', 'seed', 'experiment=base', 'seed=3']\n"
        f"try: runpy.run_path({str(EXPLAIN)!r}, run_name='__main__')\n"
        f"finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    place = line("configs/train.yaml", "seed:")
    assert done.stdout == f"seed = 3\n  42  {place}\n  3   command line: seed=3\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_same_name_wins_over_that_of_the_engine_and_is_named(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    (configs / "callbacks").mkdir(exist_ok=True)
    text = (ENGINE_CONFIGS / "callbacks" / "default.yaml").read_text().replace("seconds: 10.0", "seconds: 11.0")
    (configs / "callbacks" / "default.yaml").write_text(f"# mine\n{text}")
    found = explained("callbacks.progress.seconds", "experiment=base", configs=configs)
    assert found.value == "11.0"
    number = next(n for n, row in enumerate(text.splitlines(), 2) if "seconds:" in row)
    assert [setting.place for setting in found.settings] == [f"configs/callbacks/default.yaml:{number}"]
    # The others are still the engine's, and a mistake in a file names the file that it stands in.
    assert explained("tracker", "experiment=base", "tracker=none", configs=configs).value == "{}"
    (configs / "callbacks" / "default.yaml").write_text(text.replace("seconds: 11.0", "second: 11.0"))
    with pytest.raises(ConfigError, match=r"callbacks\.progress\.second \(configs/callbacks/default\.yaml\)"):
        compose_and_validate(configs, ["experiment=base"])
