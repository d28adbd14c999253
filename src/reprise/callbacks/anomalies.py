"""Finds the operation in which a number stops being finite."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.errors import NonFiniteError


class Anomalies(Callback):
    """Checks the output of every module in the forward pass, and every gradient in the backward pass.

    In the backward pass torch's own anomaly detection names the operation, and warns with the line of the forward
    pass that it belongs to. Batches without items are not checked: their loss is a mean over nothing. In half
    precision a gradient that overflows is nothing unusual, and found as well.
    """

    def __init__(self) -> None:
        self._was_enabled = torch.is_anomaly_enabled()

    def on_train_start(self, run: Run) -> None:
        torch.autograd.set_detect_anomaly(True)
        for name, module in run.model.named_modules():
            module.register_forward_hook(self._check(name or "the model", run))

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        torch.autograd.set_detect_anomaly(self._was_enabled)

    def _check(self, name: str, run: Run) -> Any:
        def check(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output) if torch.is_anomaly_enabled() else ():
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    number = int((~tensor.isfinite()).sum())
                    raise NonFiniteError(
                        f"{number:,} of {tensor.numel():,} numbers that {name} ({type(module).__name__}) returns are "
                        f"not finite, in optimizer step {run.loop.step + 1}; what came into it was"
                    )

        return check


def _tensors(output: Any) -> Iterable[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif hasattr(output, "logits"):
        yield from _tensors([output.logits, output.loss])
