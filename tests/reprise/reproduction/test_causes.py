"""Of several facts that differ, the first named is the one that can explain what differs first."""

from collections.abc import Sequence
from typing import Any

import pytest

from reprise.files.differences import Difference
from reprise.tools.reproduction.causes import cause_of, changed_code, explain
from reprise.tools.reproduction.findings import CheckpointComparison, Findings, LineDifference
from reprise.tools.reproduction.verdict import Verdict

GPUS = [{"name": "NVIDIA H200", "memory_bytes": 1}]

# Everything that differs between two machines of different age.
EVERYTHING = (
    Difference("determinism.PYTHONHASHSEED", "1", "2"),
    Difference("determinism.instruction_set", "AVX512", "AVX2"),
    Difference("determinism.num_threads", 4, 2),
    Difference("environment.packages.numpy", "2.1", "2.2"),
    Difference("environment.packages.pytest", "8", "9"),
    Difference("environment.packages.torch", "2.13", "2.15"),
    Difference("environment.platform", "Linux 5", "Linux 6"),
    Difference("environment.python", "3.11", "3.12"),
    Difference("hardware.cpu", "a", "b"),
    Difference("hardware.instruction_set", "AVX512", "AVX2"),
    Difference("hardware.memory_bytes", 1, 2),
)
DATA = Difference("data.splits.train.sha256", None, None)
VALIDATION_DATA = Difference("data.splits.val.sha256", None, None)


def findings(**changes: Any) -> Findings:
    """Return that two runs differ in the loss of step 7 and in the weights, but for `changes`."""
    line = LineDifference(7, "train/step_loss", 1.0, 2.0, ("train/step_loss",))
    values = {"num_lines": 10, "lines": (line,), "equal_up_to": 6, "checkpoints": (), "results": ()}
    return Findings(**{**values, "compared_results": (), "initial_weights_differ": False, "traced": (6, 7), **changes})


def first(found: Findings, facts: Sequence[Difference]) -> str:
    return explain(found, facts)[0].sentence


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        (EVERYTHING[1], "recorded with AVX-512 kernels, here AVX2"),
        (EVERYTHING[2], "4 threads → 2"),
        (Difference("determinism.num_threads", 1, 2), "1 thread → 2"),
        (EVERYTHING[5], "torch 2.13 → 2.15"),
        (Difference("environment.packages.ruamel.yaml", None, "1.0"), "ruamel.yaml not installed → 1.0"),
        (DATA, "data split `train` has another fingerprint"),
        (Difference("determinism.MKL_CBWR", "AVX2", None), "environment variable MKL_CBWR: AVX2 → not set"),
        (Difference("code.reprise", "0.2.0", "0.3.0"), "version of the engine 0.2.0 → 0.3.0"),
        (Difference("hardware.gpus", GPUS, []), "GPU NVIDIA H200 → none"),
        (Difference("determinism.cudnn_allow_tf32", True, False), "setting cudnn_allow_tf32: true → false"),
    ],
)
def test_fact_has_a_sentence(fact: Difference, sentence: str) -> None:
    cause = cause_of(fact)
    assert cause is not None
    assert cause.sentence == sentence


def test_facts_without_a_way_into_a_result_are_no_causes() -> None:
    keys = ("hardware.memory_bytes", "hardware.num_cores", "environment.not_as_locked.torch", "code.branch")
    assert [cause_of(Difference(key, 1, 2)) for key in keys] == [None] * len(keys)


def test_what_differs_first_decides_which_fact_is_named_first() -> None:
    others = EVERYTHING[1:]
    assert first(findings(), EVERYTHING) == "torch 2.13 → 2.15"
    assert first(findings(), [*others, DATA]) == "data split `train` has another fingerprint"
    assert first(findings(), [*EVERYTHING, DATA]).startswith("environment variable PYTHONHASHSEED")
    # Another validation split cannot move the training.
    validation = [*others, VALIDATION_DATA]
    assert first(findings(), validation) == "torch 2.13 → 2.15"
    line = LineDifference(7, "val/loss", 1.0, 2.0, ("val/loss",))
    scores = findings(lines=(line,), traced=(10, None))
    assert first(scores, validation) == "data split `val` has another fingerprint"


def test_changed_code_is_judged_by_what_it_is_the_code_of() -> None:
    weights = Difference("model.initial_sha256", "a", "b")
    files = ["README.md", "src/reprise/schedules.py", "src/mine/net.py", "src/mine/rows.py"]
    parts = {"src/mine/net.py": "model", "src/mine/rows.py": "data"}
    code = [*EVERYTHING, weights, *changed_code(files, parts)]
    sentence = first(findings(initial_weights_differ=True), code)
    assert sentence.startswith("the code differs in these files: src/mine/net.py, src/reprise/schedules.py")
    assert "README" not in sentence
    # Code that has nothing to do with data does not make other data.
    data = [DATA, *changed_code(["src/reprise/schedules.py"], {})]
    assert first(findings(), data) == "data split `train` has another fingerprint"
    data = [DATA, *changed_code(["src/mine/rows.py"], parts)]
    assert first(findings(), data) == "the code differs in these files: src/mine/rows.py"


def test_fact_is_said_once_and_packages_of_no_weight_together() -> None:
    packages = [Difference(f"environment.packages.p{i}", "1", "2") for i in range(9)]
    sentences = [cause.sentence for cause in explain(findings(), [*EVERYTHING, *packages])]
    assert sum("AVX2" in sentence for sentence in sentences) == 1
    assert sum("other packages" in sentence for sentence in sentences) == 1
    assert len(sentences) == 9


def test_weights_are_not_said_to_part_where_only_the_optimizer_differs() -> None:
    checkpoint = CheckpointComparison("last.pt", 10, 3, tensors=(), states=("optimizer",))
    verdict = Verdict(findings(lines=(), checkpoints=(checkpoint,), traced=(10, None)))
    assert verdict.headline == "differs from step 10 on: unexplained"
    text = verdict.text()
    assert "weights at step 10 (last.pt): equal, but not the state of optimizer" in text
    assert "the weights part" not in text
    assert "the weights are not" not in text
