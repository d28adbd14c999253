import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny.images import load_images
from tiny_runs import REPOSITORY

from reprise.callbacks.progress import Progress
from reprise.config.targets import build, check_target, complete, find_target, takes
from reprise.errors import ConfigError, InputError, Problem
from reprise.optimization.schedules import LinearSchedule

PROGRESS = "reprise.callbacks.progress.Progress"


def check(spec: Mapping[str, Any], **options: Any) -> dict[str, str]:
    problems: list[Problem] = []
    check_target(spec, "part", problems, **options)
    return {problem.key: problem.message for problem in problems}


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory on the import path that is not src/; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_a_dotted_path_leads_to_a_function_a_class_and_a_method() -> None:
    assert find_target("tiny.images.load_images") is load_images
    assert find_target("torch.optim.AdamW") is torch.optim.AdamW
    assert find_target("reprise.optimization.schedules.LinearSchedule.step") is LinearSchedule.step


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.run",
        "joblib.load",
        "pickle.loads",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.optimizer.step",
        "reprise_evil.module.function",
        # These could name another run's code as trusted, or write where they are told to.
        "reprise.runs.train.resume",
        "reprise.tools.reproduction.reproduce.reproduce",
        "reprise.runs.export.from_pretrained",
        "reprise.config.targets.build",
        "reprise.files.atomic_file.write_json",
        "hydra_plugins._reprise.JoblibLauncher",
        "numpy.load",
    ],
)
def test_what_is_in_no_trusted_package_is_refused_before_it_is_imported(path: str) -> None:
    before = set(sys.modules)
    with pytest.raises(InputError, match=r"is in no trusted package: .* add its package there if you trust its code"):
        find_target(path)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "path",
    [
        "tiny.images.np.load",
        "reprise.data.tables.csv.reader",
        "reprise.data.split_files.Path",
        "torch.optim.lr_scheduler.partial",
        "reprise.metrics.sys.exit",
        "reprise.runs.persisters.checkpoints.write_checkpoint",
    ],
)
def test_what_a_trusted_module_imports_is_not_within_reach(path: str) -> None:
    with pytest.raises(InputError, match="which is no trusted package"):
        find_target(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "expected a dotted path such as package.module.name, got null"),
        ("reprise", "expected a dotted path such as package.module.name, got 'reprise'"),
        ("reprise..data", "expected a dotted path such as package.module.name, got 'reprise..data'"),
        ("tiny.images.load_image", "there is no 'load_image'; did you mean `load_images`?"),
        ("tiny.image.load_images", "there is no 'image'; did you mean `images`?"),
        ("tiny.images._USAGE", "is not a function or class but str"),
    ],
)
def test_a_path_that_leads_nowhere_is_explained(path: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_target(path)
    assert message in str(caught.value)


def test_a_package_under_src_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_code: Path) -> None:
    (own_code / "src").mkdir()
    (own_code / "src" / "newcomer.py").write_text("def make(size: int = 1): return size\n")
    monkeypatch.setattr("reprise.config.targets._SOURCE_ROOT", own_code / "src")
    monkeypatch.syspath_prepend(own_code / "src")
    assert build({"_target_": "newcomer.make", "size": 3}, "part") == 3


def test_the_source_root_is_src() -> None:
    from reprise.config import targets

    assert REPOSITORY / "src" == targets._SOURCE_ROOT


def test_a_package_elsewhere_is_trusted_once_it_is_listed(own_code: Path) -> None:
    (own_code / "elsewhere.py").write_text("def make(): return 3\n")
    with pytest.raises(InputError, match="no trusted package"):
        find_target("elsewhere.make")
    assert find_target("elsewhere.make", ["elsewhere"])() == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_this_name", "broken needs nothing_of_this_name, which is not installed"),
        ("1 / 0", "importing broken failed with ZeroDivisionError: division by zero"),
        ("def f(:", "importing broken failed with SyntaxError"),
    ],
)
def test_own_code_that_cannot_be_imported_says_why(own_code: Path, code: str, message: str) -> None:
    (own_code / "broken.py").write_text(code + "\n")
    with pytest.raises(InputError) as caught:
        find_target("broken.make", ["broken"])
    assert message in str(caught.value)


def test_arguments_are_checked_against_the_signature() -> None:
    assert check({"_target_": PROGRESS, "seconds": 0, "secs": 1, "live": "yes"}) == {
        "part.seconds": "expected a number > 0, got 0",
        "part.secs": f"{PROGRESS} takes no such argument; did you mean `part.seconds`?",
        "part.live": "expected true or false, got 'yes'",
    }


def test_an_argument_with_a_default_may_be_left_out_and_others_may_not(own_code: Path) -> None:
    (own_code / "needy.py").write_text("def need(a, *, b, c=1): return a, b, c\n")
    spec = {"_target_": "needy.need", "a": 1}
    assert check(spec, trusted_packages=["needy"]) == {"part.b": "missing: needy.need needs it"}
    assert check(spec, trusted_packages=["needy"], provided=("b",)) == {}
    assert check(spec, trusted_packages=["needy"], open_ended=True) == {}
    with pytest.raises(ConfigError, match=r"part\.b: missing: .* neither the config nor the data gives it"):
        build(spec, "part", ["needy"])
    assert check({"_target_": "torch.optim.AdamW"}, provided=("params",)) == {}


def test_what_the_run_gives_itself_must_not_be_given() -> None:
    assert check({"_target_": "torch.optim.AdamW", "lr": 0.1}, provided=("params", "lr")) == {
        "part.lr": "the run gives this argument to AdamW itself"
    }


def test_a_spec_needs_a_target() -> None:
    assert check({"seconds": 1}) == {"part._target_": "missing: expected a dotted path such as package.module.name"}


def test_targets_within_targets_are_checked_and_built(own_code: Path) -> None:
    (own_code / "nested.py").write_text(
        "def outer(inner, factor: int): return inner, factor\ndef leaf(x: int): return x\n"
    )
    spec = {"_target_": "nested.outer", "inner": {"_target_": "nested.leaf", "x": "one"}, "factor": 2}
    assert check(spec, trusted_packages=["nested"]) == {"part.inner.x": "expected an integer, got 'one'"}
    spec["inner"] = {"_target_": "nested.leaf", "x": 1}
    assert build(spec, "part", ["nested"]) == (1, 2)


def test_what_is_provided_reaches_only_those_that_take_it_and_yields_to_the_config(own_code: Path) -> None:
    (own_code / "taker.py").write_text("def take(a, b=2): return a, b\n")
    spec = {"_target_": "taker.take", "a": 1}
    assert build(spec, "part", ["taker"], a=5, b=6, c=7) == (1, 6)
    assert complete(spec, {"a": 5, "b": 6, "c": 7}, ["taker"]) == {"_target_": "taker.take", "a": 1, "b": 6}
    assert [takes(find_target("taker.take", ["taker"]), name) for name in "abc"] == [True, True, False]


def test_build_refuses_what_check_finds() -> None:
    with pytest.raises(ConfigError, match=r"part\.secs"):
        build({"_target_": PROGRESS, "secs": 1}, "part")


def test_an_integer_reaches_the_target_as_the_float_it_annotates(own_code: Path) -> None:
    (own_code / "typed.py").write_text("def typed(rate: float): return rate\n")
    assert type(build({"_target_": "typed.typed", "rate": 1}, "part", ["typed"])) is float


def test_a_value_error_of_a_target_is_an_input_error_with_the_key(own_code: Path) -> None:
    (own_code / "picky.py").write_text("def picky(a: int): raise ValueError('a must be prime')\n")
    with pytest.raises(InputError, match=r"^part: picky\.picky refuses its arguments: a must be prime$"):
        build({"_target_": "picky.picky", "a": 4}, "part", ["picky"])


def test_the_progress_callback_is_what_its_path_names() -> None:
    assert isinstance(build({"_target_": PROGRESS, "seconds": 1, "live": False}, "part"), Progress)
