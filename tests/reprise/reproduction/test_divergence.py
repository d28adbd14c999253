"""Where two runs part is found to the bit, and nothing is found where they are equal."""

import pytest
import torch
from traced_runs import (
    NUM_STEPS,
    Again,
    Traced,
    change_json,
    use_other_kernels,
)

from reprise.files.content_hash import content_hash
from reprise.tools.reproduction.verdict import judge


def test_repeat_with_the_same_bits_is_bit_identical(reference: Traced, again: Again) -> None:
    verdict = judge(reference.run, again().run)
    assert verdict.headline == "bit-identical"
    assert verdict.findings.num_lines == NUM_STEPS
    assert verdict.findings.checkpoints[-1].step == NUM_STEPS
    assert verdict.findings.compared_results == ("predictions", "metrics", "export")


def test_facts_that_differ_and_move_no_bit_are_named_and_harm_nothing(reference: Traced, again: Again) -> None:
    repeated = again()
    change_json(repeated.run.provenance, "environment/packages/numpy", "9.9")
    verdict = judge(reference.run, repeated.run)
    assert verdict.headline == "bit-identical"
    assert [cause.sentence.split()[0] for cause in verdict.harmless] == ["numpy"]


def test_step_is_bounded_where_not_every_step_was_traced(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"trace_every_steps": 4, "callbacks__metrics_log__every_steps": None}
    recorded = again(**options)
    use_other_kernels(monkeypatch, 10)
    verdict = judge(recorded.run, again(**options).run)
    assert (verdict.findings.weights_equal_up_to, verdict.findings.first_step) == (8, 12)
    assert "the weights part after step 8, by step 12 at the latest" in verdict.text()


def test_weights_that_differ_under_equal_metrics_are_found(reference: Traced, again: Again) -> None:
    recorded = again(callbacks__metrics_log__every_steps=None, training__weight_decay=0.01)
    repeated = again(callbacks__metrics_log__every_steps=None, training__weight_decay=0.01)
    state = torch.load(recorded.run.last_checkpoint, weights_only=True)
    state["model_state_dict"]["first.bias"][5] += 1e-6
    state["sha256"] = content_hash({key: value for key, value in state.items() if key != "sha256"})
    torch.save(state, recorded.run.last_checkpoint)
    verdict = judge(recorded.run, repeated.run)
    assert verdict.headline == f"differs from step {NUM_STEPS} on: unexplained"
    (tensor,) = verdict.findings.checkpoints[-1].tensors
    assert (tensor.name, tensor.largest) == ("first.bias", pytest.approx(1e-6, rel=0.1))
    assert "every metric is equal" in verdict.text()
