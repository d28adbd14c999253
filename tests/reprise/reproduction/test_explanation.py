"""Causes are injected one at a time; the first explanation must name them, and the step must be the true one."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_parts
import torch
from traced_runs import (
    NUM_STEPS,
    Again,
    Traced,
    assert_parts_at,
    change_json,
    config_of,
    first_cause,
    first_other_step,
    train_in_new_process,
    train_traced,
    use_other_kernels,
)

from reprise.cli.resuming import resume
from reprise.runs.run_directory import RunDirectory
from reprise.tools.reproduction.verdict import judge
from reprise.training.loading import Batches


def test_thread_count(again: Again) -> None:
    # The norm that needs more than one thread to differ is one of 65,536 numbers.
    recorded, repeated = again(num_threads=2), again(num_threads=1)
    verdict = judge(recorded.run, repeated.run)
    assert first_cause(verdict) == "2 threads → 1"
    assert_parts_at(verdict, first_other_step(recorded, repeated))


def test_instruction_set(reference: Traced, points: Path, tmp_path: Path) -> None:
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("there is only one instruction set here")
    here = torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")
    recorded = train_in_new_process(config_of(tmp_path, points), tmp_path, ATEN_CPU_CAPABILITY="default")
    verdict = judge(recorded.run, reference.run)
    assert first_cause(verdict) == f"recorded with default kernels, here {here}"
    assert_parts_at(verdict, first_other_step(recorded, reference))


def test_one_changed_row_of_the_training_data(reference: Traced, again: Again, points: Path, tmp_path: Path) -> None:
    row = 17
    content = json.loads(points.read_text())
    content["train"]["inputs"][row][0] += 1
    changed = tmp_path / "points.json"
    changed.write_text(json.dumps(content))
    repeated = again(data=changed)
    verdict = judge(reference.run, repeated.run)
    assert first_cause(verdict) == "data split `train` has another fingerprint"
    order = Batches([None] * 80, list, batch_size=16, seed=42, purpose="train", shuffle=True).order(0).tolist()
    assert first_other_step(reference, repeated) == order.index(row) // 16 + 1
    assert_parts_at(verdict, first_other_step(reference, repeated))


def test_changed_validation_data(reference: Traced, again: Again, points: Path, tmp_path: Path) -> None:
    content = json.loads(points.read_text())
    content["val"]["inputs"][3][0] += 100
    changed = tmp_path / "points.json"
    changed.write_text(json.dumps(content))
    repeated = again(data=changed)
    verdict = judge(reference.run, repeated.run)
    assert first_cause(verdict) == "data split `val` has another fingerprint"
    assert first_other_step(reference, repeated) is None
    assert verdict.findings.first_step == NUM_STEPS // 3  # the first evaluation
    assert verdict.findings.lines[0].name.startswith("val/")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training__precision", "bf16"),
        ("training__learning_rate", 0.2),
        ("data__num_samples", 64),
        ("seed", 7),
        ("model__dropout", 0.2),
    ],
)
def test_edited_config(key: str, value: Any, reference: Traced, again: Again, tmp_path: Path) -> None:
    recorded = again()
    change_json(recorded.run.config, key.replace("__", "/"), value)
    repeated = again(**{key: value})
    verdict = judge(recorded.run, repeated.run)
    assert first_cause(verdict).startswith(f"config.json was changed: {key.replace('__', '.')}")
    assert_parts_at(verdict, first_other_step(recorded, repeated))


def test_edited_optimizer(again: Again) -> None:
    recorded = again(training__optimizer={"_target_": "torch.optim.AdamW", "fused": False})
    change_json(recorded.run.config, "training/optimizer/fused", True)
    repeated = again(training__optimizer={"_target_": "torch.optim.AdamW", "fused": True})
    verdict = judge(recorded.run, repeated.run)
    assert first_cause(verdict).startswith("config.json was changed: training.optimizer.fused was false in training")
    # The kernel moves the weights before it moves a metric.
    assert verdict.findings.lines[0].step > 1
    assert_parts_at(verdict, first_other_step(recorded, repeated))


@pytest.mark.parametrize(
    ("place", "key", "recorded_value", "explanation", "from_step"),
    [
        ("environment/packages", "torch", "2.11.0", "torch 2.11.0 → ", 4),
        ("environment/packages", "transformers", "4.0.0", "transformers 4.0.0 → ", 2),
        ("determinism", "MKL_CBWR", "COMPATIBLE", "environment variable MKL_CBWR: COMPATIBLE → not set", 7),
        ("determinism", "float32_matmul_precision", "medium", "setting float32_matmul_precision: medium → highest", 1),
        ("determinism", "debug_mode", "default", "deterministic kernels: default → warn", 3),
        ("hardware", "device", "cuda", "device cuda → cpu", 1),
        ("hardware", "gpus", [{"name": "NVIDIA H200"}], "GPU NVIDIA H200 → none", 1),
        ("hardware", "cpu", "another processor", "processor another processor → ", 9),
        ("environment", "python", "3.9.1", "Python 3.9.1 → ", 5),
    ],
)
def test_recorded_fact(
    place: str,
    key: str,
    recorded_value: Any,
    explanation: str,
    from_step: int,
    reference: Traced,
    again: Again,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        use_other_kernels(patch, from_step)
        recorded = again()
    change_json(recorded.run.provenance, f"{place}/{key}", recorded_value)
    verdict = judge(recorded.run, reference.run)
    assert first_cause(verdict).startswith(explanation)
    assert first_other_step(recorded, reference) == from_step
    assert_parts_at(verdict, from_step)


def test_other_initial_weights(reference: Traced, again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_parts, "INITIAL_SCALE", 0.06)
    repeated = again()
    verdict = judge(reference.run, repeated.run)
    assert first_cause(verdict) == "the initial weights are others"
    assert first_other_step(reference, repeated) == 0
    assert_parts_at(verdict, 0)


def test_hash_seed(points: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data___target_": "tiny_parts.load_words"}
    recorded = train_in_new_process(config_of(tmp_path, points, **options), tmp_path, PYTHONHASHSEED="1")
    repeated = train_traced(config_of(tmp_path, points, **options))
    verdict = judge(recorded.run, repeated.run)
    assert first_cause(verdict).startswith("environment variable PYTHONHASHSEED: 1 → ")
    assert_parts_at(verdict, first_other_step(recorded, repeated))


def test_draws_that_no_seed_reaches(again: Again) -> None:
    options = {"data___target_": "tiny_parts.load_unseeded"}
    recorded, repeated = again(**options), again(**options)
    verdict = judge(recorded.run, repeated.run, repeat=lambda steps: again(training__max_steps=steps, **options).run)
    assert first_cause(verdict).startswith("the run is not repeatable: two repeats here differ too (from step 1 on)")
    assert "a generator that nothing seeds" in first_cause(verdict)
    assert_parts_at(verdict, first_other_step(recorded, repeated))


def test_difference_without_a_fact_is_unexplained_and_tried_twice(
    reference: Traced, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        use_other_kernels(patch, 6)
        recorded = again()
    asked: list[int | None] = []

    def repeat(steps: int | None) -> RunDirectory:
        asked.append(steps)
        return again().run

    verdict = judge(recorded.run, reference.run, repeat=repeat)
    assert verdict.headline == "differs from step 6 on: unexplained"
    assert verdict.repeats_agree is True
    assert asked == [5] or asked == [6]
    assert "Two repeats on this machine agree" in verdict.text()


def test_data_without_a_fingerprint_is_a_candidate(again: Again, points: Path, tmp_path: Path) -> None:
    content = json.loads(points.read_text())
    content["train"]["labels"] = content["train"]["labels"][::-1]
    changed = tmp_path / "points.json"
    changed.write_text(json.dumps(content))
    recorded, repeated = again(data__is_described=False), again(data__is_described=False, data=changed)
    verdict = judge(recorded.run, repeated.run)
    assert verdict.headline.endswith("unexplained")
    assert verdict.candidates[0] == "data split `train`, of which no fingerprint was recorded"


def test_line_changed_by_hand(reference: Traced, again: Again) -> None:
    recorded = again()
    log = recorded.run.metrics_log
    lines = log.read_text().splitlines(keepends=True)
    line = json.loads(lines[6])
    line["metrics"]["train/step_loss"] *= 0.5
    lines[6] = json.dumps(line) + "\n"
    log.write_text("".join(lines))
    verdict = judge(recorded.run, reference.run)
    assert first_cause(verdict).startswith("metrics.jsonl was changed after it was written (step 7)")
    assert (verdict.findings.first_step, verdict.findings.equal_up_to) == (7, 6)
    assert first_other_step(recorded, reference) is None


def test_run_that_was_resumed_elsewhere(reference: Traced, again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        use_other_kernels(patch, 9)
        recorded = again()
    status = recorded.run.read_status()
    drift = [{"fact": "environment.packages.torch", "recorded": torch.__version__, "now": "2.99"}]
    status["attempts"].append({**status["attempts"][0], "from_step": 8, "drift": drift, "changes": []})
    recorded.run.status.write_text(json.dumps(status))
    verdict = judge(recorded.run, reference.run)
    assert first_cause(verdict).startswith("the run was resumed elsewhere: from step 8 on, torch 2.99 → ")
    assert_parts_at(verdict, 9)


def test_run_that_was_extended(again: Again, tmp_path: Path) -> None:
    # The schedule depends on the length.
    recorded = again(training__max_epochs=2)
    resume(recorded.run.path, ["training.max_epochs=3"], ["tiny_parts"])
    repeated = again()
    verdict = judge(recorded.run, repeated.run)
    assert first_cause(verdict).startswith("the run was extended: training.max_epochs was 2 up to step 10, then 3")
    # The first two steps are warm-up. The line of a step holds the rate of the next one, which moves the weights then.
    assert (verdict.findings.first_step, first_other_step(recorded, repeated)) == (3, 4)
    assert verdict.findings.lines[0].names == ("train/learning_rate",)
