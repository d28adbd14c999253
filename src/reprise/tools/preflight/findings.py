"""What a preflight found, and what the whole run would take, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reprise.text.numbers import binary_size, count, duration, figure


@dataclass(frozen=True)
class Estimate:
    """What the whole run would take. Sizes in bytes."""

    total_steps: int
    step_seconds: float
    num_evaluations: int
    evaluation_seconds: float
    """Of the whole validation split."""
    test_seconds: float
    num_checkpoints: int
    checkpoint_size: int
    disk: int
    free_disk: int
    state: int
    """Weights, gradients and the state of the optimizer."""
    peak_memory: int
    """Of the check itself."""

    @property
    def seconds(self) -> float:
        """Of training, evaluations and the final scores; not of checkpoints and the start."""
        return self.total_steps * self.step_seconds + self.num_evaluations * self.evaluation_seconds + self.test_seconds


@dataclass(frozen=True)
class PreflightFindings:
    experiment_name: str
    data: str
    sizes: Mapping[str, int]
    model: str
    num_parameters: int
    batch_size: int
    losses: Sequence[float]
    monitor: str
    metrics: Mapping[str, float]
    export: Sequence[str]
    device: str
    """Of the check."""
    real_device: str
    """Of the run, as far as that can be told here."""
    remarks: Sequence[str]
    estimate: Estimate

    def text(self) -> str:
        """Return a report for the terminal."""
        estimate = self.estimate
        is_same_device = self.device.split(":")[0] == self.real_device.split(":")[0]
        splits = ", ".join(f"{size:,} {name}" for name, size in self.sizes.items())
        checked = [
            ("config", "valid"),
            ("data", f"{self.data}: {splits}"),
            ("model", f"{self.model}, {count(self.num_parameters, 'parameter')}"),
            (
                "training",
                f"{count(len(self.losses), 'step')} on the {_named(self.device)}; "
                + (
                    f"loss {figure(self.losses[0])} → {figure(self.losses[-1])}"
                    if self.losses
                    else "all others were skipped, and the log says why"
                ),
            ),
            ("evaluation", f"{', '.join(self.metrics)}"),
            ("monitor", f"training.monitor={self.monitor} is among them"),
            ("checkpoint", f"{binary_size(estimate.checkpoint_size)}, written and read"),
            ("export", f"{', '.join(self.export)}; loads, and gives the model's logits"),
        ]
        time = f"about {duration(estimate.seconds)}: {count(estimate.total_steps, 'step')} of " + (
            f"{_short(estimate.step_seconds)}, {count(estimate.num_evaluations, 'evaluation')} of "
            f"{_short(estimate.evaluation_seconds)}"
        )
        peak = f"about {binary_size(estimate.peak_memory)} at the peak of this check"
        state = f"{binary_size(estimate.state)} of it weights, gradients and optimizer"
        if not is_same_device:
            time = f"not estimated: the run would train on {_named(self.real_device)}, and this was the CPU; " + (
                f"{count(estimate.total_steps, 'step')}, {count(estimate.num_evaluations, 'evaluation')}"
            )
            peak, state = (
                f"{binary_size(estimate.state)} for weights, gradients and optimizer",
                f"activations of {count(self.batch_size, 'sample')} not estimated",
            )
        whole = [
            ("time", time),
            (
                "disk",
                f"about {binary_size(estimate.disk)}, {binary_size(estimate.free_disk)} are free: "
                f"{count(estimate.num_checkpoints, 'checkpoint')}, export, predictions",
            ),
            ("memory", f"{peak}, {state}"),
        ]
        parts = [
            f"Preflight of {self.experiment_name}: the run would work.",
            _rows(checked),
            "The whole run, estimated from these first steps:",
            _rows(whole),
            *self.remarks,
            "Nothing was left behind.",
        ]
        return "\n\n".join(parts)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<11} {text}" for name, text in rows)


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else duration(seconds)


def _named(device: str) -> str:
    return {"cpu": "CPU"}.get(device, device)
