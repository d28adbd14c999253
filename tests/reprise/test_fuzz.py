"""Wrong use: whatever is typed or written into a YAML file ends in a run, or in one message and nothing on disk.

The ordinary suite tries some dozens of mutated commands and files, the same ones each time; `pytest -m long
tests/reprise/test_fuzz.py` tries hundreds, others each time, and prints what it takes to repeat a failure.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import CONFIG_FILES, CONFIGS, TINY, compose

from reprise.cli.hydra_command import run_hydra
from reprise.config.composed import Composed
from reprise.runs.train import train

_LIMIT = 120  # seconds for one case
# One step, and nothing that takes long afterwards.
QUICK = (*TINY, "training.max_steps=1", "metrics.classification.num_bootstrap_samples=1", "num_threads=1")


def _flat(values: Any, prefix: str = "") -> Iterator[str]:
    for key, item in values.items():
        yield f"{prefix}{key}"
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")


# What is written has to stay where it is looked for.
KEYS = sorted(set(_flat(compose(*TINY).config.to_dict())) - {"output_dir"})
GROUPS = sorted({str(parent) for name in CONFIG_FILES for parent in Path(name).parents} - {"."})
# What takes a machine to its limits is no mistake that a check could find.
CHEAP_NUMBERS = ("-1", "0", "1", "2", "0.5", "1e-3", "-0.0", "1e400", "nan", "inf", "1_0", "0x10", "00")
VALUES = (
    *CHEAP_NUMBERS,
    *("null", "true", "False", "yes", "abc", "", "''", "'", '"', "\\", "???", "~", "!", "a b", "a,b", "a=b", "a:b"),
    *(
        "[]",
        "[1,2]",
        "[a,null]",
        "{}",
        "{a:1}",
        "{a:{b:[]}}",
        "[[[]]]",
        "[",
        "{a",
        "choice(1,2)",
        "range(3)",
        "glob(*)",
    ),
    *("${seed}", "${training}", "${nowhere.at.all}", "${oc.env:NOT_SET_ANYWHERE}", "${", "$", "${seed}${seed}", "${.}"),
    *("ünï", "\u202e", "😀", "\udcff", "a\nb", "\t", "../x", "/", "%s", "{0}", "<b>", "os.system", "reprise.data.Data"),
)
EXTRA = ("+", "++", "~", "", "", "")
SWITCHES = (
    "-m",
    "--cfg",
    "--info",
    "--resolve",
    "--nothing",
    "--config-name",
    "--config-name=nothing",
    "-c",
    "=",
    "--",
)


@st.composite
def typos(draw: st.DrawFn) -> str:
    """Return a key as people mistype it."""
    key = draw(st.sampled_from(KEYS + GROUPS))
    place = draw(st.integers(0, max(0, len(key) - 1)))
    return draw(
        st.sampled_from(
            [key, key, key, key[:place] + key[place + 1 :], key[:place] + "x" + key[place:], key + ".x", key.upper()]
        )
    )


@st.composite
def overrides(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(SWITCHES))
    sign, key = draw(st.sampled_from(EXTRA)), draw(typos())
    if sign == "~" and draw(st.booleans()):
        return f"~{key}"
    return f"{sign}{key}={draw(st.sampled_from(VALUES))}"


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str]:
    """Return the name of a config file that the command uses, and a mutated text of it."""
    name = draw(
        st.sampled_from(
            [
                *("experiment/base.yaml", "model/perceptron.yaml", "data/images.yaml", "training/default.yaml"),
                *(
                    "metrics/classification.yaml",
                    "callbacks/default.yaml",
                    "training/optimizer/adamw.yaml",
                    "train.yaml",
                ),
            ]
        )
    )
    lines = CONFIG_FILES[name].read_text().splitlines()
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(lines) - 1))
        line, value = lines[place], draw(st.sampled_from(VALUES))
        junk = draw(
            st.sampled_from(["!!python/object/apply:os.system [x]", "&a", "*a", "\x00", "- x", "x", ": :", "\ufeff"])
        )
        lines[place : place + 1] = draw(
            st.sampled_from(
                [
                    *([], [line, line], [f"  {line}"], [line.lstrip()], [f"\t{line}"], [line[: len(line) // 2]]),
                    *(*([f"{line.partition(':')[0]}: {new}"] for new in (value, junk)), [junk, line]),
                    [line.replace("_", "-", 1)],
                ]
            )
        )
        lines = lines or [""]
    return name, "\n".join(lines) + "\n"


def _alarm(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"not done after {_LIMIT} seconds")


@contextlib.contextmanager
def _process_as_it_was(directory: str) -> Iterator[None]:
    handlers, level, argv, where = list(logging.getLogger().handlers), logging.getLogger().level, sys.argv, os.getcwd()
    previous = signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(_LIMIT)
    os.chdir(directory)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        os.chdir(where)
        sys.argv = argv
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        torch.set_deterministic_debug_mode("default")


def attempt(arguments: tuple[str, ...], names: tuple[str, ...], configs: Path = CONFIGS) -> list[str]:
    """Give a command; return what is wrong with how it ended. A message about it must hold one of `names`."""

    def task(composed: Composed) -> None:
        print(train(composed))

    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as directory:
        with (
            _process_as_it_was(directory),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("default")  # Hydra warns of some files; that is no error outside of tests
            sys.argv = ["scripts/train.py", *arguments]
            code: Any = None
            try:
                run_hydra(task, configs)
            except SystemExit as stopped:
                code = stopped.code
        left = [path.name for path in Path(directory).iterdir()]
    said = err.getvalue()
    wrong = []
    if "Traceback" in said:
        wrong.append("a traceback")
    if code not in (0, None, 2) and not said.startswith("Error: "):  # a run may fail, and says why
        wrong.append(f"exit code {code}")
    if code == 2 and left:
        wrong.append(f"left on disk: {left}")
    if code == 2 and not any(name in said for name in names):
        wrong.append(f"a message without {' or '.join(names)}")
    return [f"{what}: {' '.join(map(repr, arguments[len(QUICK) :]))}\n{said[-1500:]}" for what in wrong]


def check_command(given: tuple[str, ...]) -> None:
    keys = [re.split(r"[./]", override.partition("=")[0].lstrip("+~"))[-1] for override in given]
    keys += [switch.partition("=")[2] for switch in given if switch.startswith("-")]
    assert attempt((*QUICK, "output_dir=outputs", *given), (*filter(None, keys), *given)) == []


def check_file(name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        configs = Path(shutil.copytree(CONFIGS, Path(scratch) / "configs"))
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(text)
        keys = re.findall(r"\w+(?=:)", CONFIG_FILES[name].read_text() + text)  # one that was taken out may be missing
        names = (Path(name).name, name.removesuffix(".yaml"), *keys)
        assert attempt((*QUICK, "output_dir=outputs"), names, configs) == [], text


def tried(num: int, *, is_random: bool) -> settings:
    return settings(
        max_examples=num,
        derandomize=not is_random,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


commands = st.lists(overrides(), min_size=1, max_size=2).map(tuple)


@tried(24, is_random=False)
@given(given=commands)
def test_a_mistyped_command_ends_in_a_run_or_one_message(given: tuple[str, ...]) -> None:
    check_command(given)


@tried(12, is_random=False)
@given(file=files())
def test_a_mangled_config_file_ends_in_a_run_or_one_message(file: tuple[str, str]) -> None:
    check_file(*file)


@pytest.mark.long
@tried(350, is_random=True)
@given(given=commands)
def test_mistyped_commands_end_in_a_run_or_one_message(given: tuple[str, ...]) -> None:
    check_command(given)


@pytest.mark.long
@tried(200, is_random=True)
@given(file=files())
def test_mangled_config_files_end_in_a_run_or_one_message(file: tuple[str, str]) -> None:
    check_file(*file)
