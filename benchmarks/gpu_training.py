"""A BERT-base and a GPT-2-small in bfloat16 on one GPU: time, memory, waiting for the GPU, checkpoints.

Wall time, since the GPU does the work; each contestant has the machine to itself while it runs. Whoever is measured
waits for the GPU at the first and the last of its steps that count.
"""

import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Mapping

import checkpoint_stall
from measuring import Contestant, Failed, Measured, Row, compare, measurement, peer, race, reprise_run
from workloads.sizes import WORKLOADS

NUM_BATCHES, FIRST, LAST = 150, 30, 130
LOG_EVERY = 10
NOT_DETERMINISTIC, WAITS, TRAINER = "deterministic=false", "ours, waits counted", "transformers.Trainer"


def gpu(num_rounds: int) -> list[Row]:
    if not has_gpu():
        raise Failed("needs a GPU that torch can use (CUDA)")
    rows = [row for workload in ("bert_base", "gpt2_small") for row in training(num_rounds, workload, "cuda")]
    return [*rows, *checkpoint_stall.checkpoint(num_rounds, "cuda")]


def has_gpu() -> bool:
    # In a process of its own: this one imports no torch.
    asked = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def training(num_rounds: int, workload: str, device: str) -> list[Row]:
    rounds = race(contestants(workload, device), num_rounds, in_turns=False)
    size = WORKLOADS[workload]
    others = [name for name in ("bare", TRAINER) if name in rounds[0]]
    steps = {
        name: statistics.median(seconds(measured[name]) for measured in rounds) for name in rounds[0] if name != WAITS
    }
    rates = {name: f"{size.batch_size * size.length / step:,.0f}" for name, step in steps.items()}
    against_false = compare("", rounds, seconds, over=NOT_DETERMINISTIC, most=None, scale=1e3, unit="ms")
    waits = [synchronisations(measured[WAITS]) for measured in rounds]
    between, at_lines = (max(counts) for counts in zip(*waits, strict=True))
    return [
        *(
            compare(f"{workload}, a step", rounds, seconds, over=over, most=None, scale=1e3, unit="ms")
            for over in others
        ),
        Row(
            f"{workload}, tokens per second",
            bare=rates["bare"],
            ours=rates["ours"],
            value=f"{rates[TRAINER]} by {TRAINER}" if TRAINER in rates else "",
        ),
        *(
            compare(
                f"{workload}, most memory of the GPU",
                rounds,
                memory,
                over=over,
                most=None,
                scale=1e-6,
                unit="MB",
                difference=True,
            )
            for over in others
        ),
        Row(
            f"{workload}, deterministic=true against false (stands under bare)",
            bare=f"{steps[NOT_DETERMINISTIC] * 1e3:.3g} ms",
            ours=against_false.ours,
            value=against_false.value,
        ),
        Row(
            f"{workload}, how often a step waits for the GPU, between lines of the log",
            ours=str(between),
            value=f"{at_lines} with a line",
            target="0",
            reached=between == 0,
        ),
    ]


def contestants(workload: str, device: str) -> list[Contestant]:
    at = [FIRST, LAST]
    size = WORKLOADS[workload]
    overrides = (
        "experiment_name=benchmark",
        "data=tokens",
        f"data.workload={workload}",
        f"data.num_batches={NUM_BATCHES}",
        "model=language",
        f"training.batch_size={size.batch_size}",
        "training.max_epochs=1",
        "training.precision=bf16",
        f"training.log_every_steps={LOG_EVERY}",
    )
    counting = (
        "callbacks=[default,synchronisations]",
        "callbacks.synchronisations.report={report}",
        f"callbacks.synchronisations.leave_after={LAST}",
    )
    found = [
        reprise_run("ours", *overrides, *measurement(at), device=device),
        reprise_run(NOT_DETERMINISTIC, *overrides, *measurement(at), "deterministic=false", device=device),
        reprise_run(WAITS, *overrides, *counting, device=device),
        peer("bare", "accelerated_loop.py", workload, device, NUM_BATCHES, *at),
    ]
    if importlib.util.find_spec("accelerate") is None:
        print(f"  without {TRAINER}, which needs the package accelerate", file=sys.stderr)
    else:
        found.append(peer(TRAINER, "transformers_trainer.py", workload, device, NUM_BATCHES, *at))
    return found


def seconds(measured: Measured) -> float:
    """Return the wall seconds of a step."""
    marks = measured.report["marks"]
    duration: float = marks[str(LAST)]["wall"] - marks[str(FIRST)]["wall"]
    return duration / (LAST - FIRST)


def memory(measured: Measured) -> float:
    peak: float = measured.report["marks"][str(LAST)]["gpu_peak"]
    return peak


def synchronisations(measured: Measured) -> tuple[int, int]:
    """Return the most that a step has, between lines of the log and where a line is due."""
    counts: Mapping[str, int] = measured.report["synchronisations"]
    settled = {int(step): count for step, count in counts.items() if int(step) > FIRST}
    # What is done when a step is committed counts for the one after it.
    between = max(count for step, count in settled.items() if (step - 1) % LOG_EVERY)
    return between, max(count for step, count in settled.items() if (step - 1) % LOG_EVERY == 0)
