import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reprise.cli.resuming import resume
from reprise.runs.cost import CostMeter

CPU = torch.device("cpu")
ATTEMPT = {"started": "2026-11-20T10:00:00+00:00", "ended": "2026-11-20T10:01:30+00:00"}


def test_time_of_all_attempts_is_known_only_if_each_says_when_it_ended() -> None:
    cost = CostMeter(CPU).measure(20, 100, 2.0, [ATTEMPT, ATTEMPT])
    assert cost["from_step"] == 20
    assert 0 <= cost["wall_seconds"] < 60
    assert cost["wall_seconds_all_attempts"] == pytest.approx(180 + cost["wall_seconds"], abs=0.011)
    assert cost["samples_per_second"] == 50.0
    killed = ATTEMPT | {"ended": "unknown"}
    assert CostMeter(CPU).measure(20, 100, 2.0, [ATTEMPT, killed])["wall_seconds_all_attempts"] is None


def test_no_speed_is_told_of_an_attempt_that_trained_nothing() -> None:
    assert CostMeter(CPU).measure(20, 0, 0.001, [ATTEMPT])["samples_per_second"] is None


def test_energy_without_a_counter_is_not_guessed() -> None:
    assert CostMeter(CPU).measure(0, 1, 1.0, [])["energy_joules"] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_energy_of_a_gpu_is_what_its_counter_says() -> None:
    device = torch.device("cuda")
    meter = CostMeter(device)
    matrix = torch.ones(4096, 4096, device=device)
    started = time.monotonic()
    while time.monotonic() - started < 2:
        matrix = (matrix @ matrix).clamp(-1, 1)
        torch.cuda.synchronize()
    cost = meter.measure(0, 1, 1.0, [])
    assert cost["peak_memory_bytes"] >= 4096 * 4096 * 4
    assert cost["energy_joules"] is None or 20 < cost["energy_joules"] < 20_000


def test_cost_of_a_run_that_was_extended_is_of_the_whole_run(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny("training.max_epochs=1")
    first = json.loads((run / "provenance.json").read_text())["cost"]
    assert first["from_step"] == 0
    assert first["wall_seconds_all_attempts"] == first["wall_seconds"] > 0
    assert first["samples_per_second"] > 0
    assert first["peak_memory_bytes"] > 2**20
    assert first["energy_joules"] is None
    resume(run, ["training.max_epochs=2"])
    second = json.loads((run / "provenance.json").read_text())["cost"]
    assert second["from_step"] == 6
    assert second["wall_seconds_all_attempts"] >= second["wall_seconds"]
    assert second["samples_per_second"] > 0
