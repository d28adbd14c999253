"""Rows of the card on what the run ran on, and what it took."""

from typing import Any

from reprise.files.json_values import at, list_at, mapping_at, number_at, text_at
from reprise.text.markdown import escape
from reprise.text.numbers import binary_size, count, duration, figure
from reprise.tools.model_card.facts import Facts
from reprise.tools.model_card.sections import NOT_RECORDED, recorded, recorded_code

_PACKAGES = ("reprise", "torch", "transformers", "numpy", "hydra-core")


def environment_rows(facts: Facts) -> list[list[str]]:
    environment = mapping_at(facts.provenance, "environment")
    packages = mapping_at(environment, "packages")
    versions = [f"{name} {escape(packages[name])}" for name in _PACKAGES if packages.get(name) is not None]
    return [
        ["Python", recorded(text_at(environment, "python"))],
        ["Packages", ", ".join(versions) or NOT_RECORDED],
        ["Platform", recorded(text_at(environment, "platform"))],
    ]


def hardware_rows(facts: Facts) -> list[list[str]]:
    hardware = mapping_at(facts.provenance, "hardware")
    memory = number_at(hardware, "memory_bytes")
    gpus = list_at(hardware, "gpus")
    rows = [
        ["Device", recorded_code(text_at(hardware, "device"))],
        ["Processor", recorded(text_at(hardware, "cpu"))],
        ["Instruction set", recorded(text_at(hardware, "instruction_set"))],
        ["Cores", shown(at(hardware, "num_cores"))],
        ["Threads", shown(at(hardware, "num_threads") or at(facts.config, "num_threads"))],
        ["Memory", NOT_RECORDED if memory is None else binary_size(memory)],
    ]
    num_processes = number_at(hardware, "num_processes")
    if num_processes is not None and num_processes > 1:
        rows.insert(
            0, ["Processes", f"{num_processes:.0f}, {escape(text_at(facts.config, 'training', 'parallel') or '')}"]
        )
    if gpus:
        libraries = {"CUDA": at(hardware, "cuda"), "cuDNN": at(hardware, "cudnn")}
        versions = [f"{title} {escape(version)}" for title, version in libraries.items() if version is not None]
        rows += [
            ["GPUs", ", ".join(_gpu(gpu) for gpu in gpus)],
            ["GPU libraries", ", ".join(versions) or NOT_RECORDED],
        ]
    return rows


def _gpu(gpu: Any) -> str:
    memory = number_at(gpu, "memory_bytes")
    return escape(text_at(gpu, "name") or "unnamed") + ("" if memory is None else f" ({binary_size(memory)})")


def cost_rows(facts: Facts) -> list[list[str]]:
    cost = mapping_at(facts.provenance, "cost")
    speed, memory = number_at(cost, "samples_per_second"), number_at(cost, "peak_memory_bytes")
    energy = number_at(cost, "energy_joules")
    what = "of the GPU" if list_at(facts.provenance, "hardware", "gpus") else "of the whole process"
    return [
        ["Wall time", _wall_time(facts)],
        ["Speed", NOT_RECORDED if speed is None else f"{figure(speed)} samples a second, evaluations included"],
        ["Peak memory", NOT_RECORDED if memory is None else f"{binary_size(memory)} {what}"],
        ["Energy", "not measured" if energy is None else f"{figure(energy / 3600)} Wh, by the GPU's own counter"],
    ]


def _wall_time(facts: Facts) -> str:
    cost = mapping_at(facts.provenance, "cost")
    seconds = number_at(cost, "wall_seconds")
    if seconds is None:
        return NOT_RECORDED
    num_attempts = len(list_at(facts.status, "attempts"))
    if num_attempts < 2:
        return duration(seconds)
    total = number_at(cost, "wall_seconds_all_attempts")
    last = f"{duration(seconds)} for the last attempt, from step {figure(int(number_at(cost, 'from_step') or 0))}"
    if "wall_seconds_all_attempts" not in cost:
        return last
    if total is None:
        return f"{last}; how long all {count(num_attempts, 'attempt')} took is not known, since one was killed"
    return f"{duration(total)} in {count(num_attempts, 'attempt')}; {last}"


def shown(value: Any) -> str:
    return NOT_RECORDED if value is None else escape(value)
