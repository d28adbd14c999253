"""Measures the cost of a run: time, speed, memory, and energy where the GPU counts it."""

import ctypes
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import torch


class CostMeter:
    """Measures one attempt, from when it is made.

    Energy is that of the GPU in use, all that ran on it included, from the driver's own counter. The counters of
    processors are left out: only root may read them, they are of the whole machine, and they wrap around within the
    hour.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = time.monotonic()
        self._energy = _gpu_energy(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def measure(
        self, from_step: int, num_samples: int, training_seconds: float, earlier: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return the cost of the attempt that completes the run; None stands for unknown values.

        `num_samples`: trained on from step `from_step` on, in `training_seconds`, evaluations included. `earlier`:
        the attempts before, as `status.json` has them.
        """
        seconds, energy = time.monotonic() - self._started, _gpu_energy(self._device)
        before = [_seconds(attempt) for attempt in earlier]
        return {
            "from_step": from_step,
            "wall_seconds": round(seconds, 2),
            "wall_seconds_all_attempts": None if None in before else round(seconds + sum(filter(None, before)), 2),
            "samples_per_second": round(num_samples / training_seconds, 1) if num_samples else None,
            "peak_memory_bytes": peak_memory(self._device),
            "energy_joules": None if energy is None or self._energy is None else round(energy - self._energy, 1),
        }


def num_samples_seen(step: int, num_samples: int, steps_per_epoch: int, samples_per_step: int) -> int:
    """Return how many samples `step` steps train on, if an epoch has `num_samples`; its last step may have fewer."""
    num_epochs, position = divmod(step, steps_per_epoch)
    return num_epochs * num_samples + min(num_samples, position * samples_per_step)


def _seconds(attempt: Mapping[str, Any]) -> float | None:
    """Return the seconds of an attempt; None for one that was killed, which recorded no end."""
    try:
        ended, started = (datetime.fromisoformat(attempt[key]) for key in ("ended", "started"))
    except ValueError:
        return None
    return (ended - started).total_seconds()


def peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _gpu_energy(device: torch.device) -> float | None:
    """Return the joules that a GPU has consumed since its driver was loaded; None where that is not counted.

    See https://docs.nvidia.com/deploy/nvml-api, `nvmlDeviceGetTotalEnergyConsumption`.
    """
    if device.type != "cuda":
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        failed = (
            nvml.nvmlInit_v2()
            or nvml.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle))
            or nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        )
    except (OSError, AttributeError):  # no such library, or an older one
        return None
    return None if failed else millijoules.value / 1000
