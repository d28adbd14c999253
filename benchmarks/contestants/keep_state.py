"""What a checkpoint of 101 million parameters with AdamW costs at least, and as people write it.

`copy`: all tensors of the state are copied into buffers that are there already. `save`: torch.save in line. Only
these are timed, after each of NUM_STEPS steps of training; the first step makes AdamW's state and the buffers. Buffers
for a GPU are pinned memory of the host.

python keep_state.py REPORT OUTPUTS copy|save NUM_STEPS cpu|cuda
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from workloads.marks import leave
from workloads.perceptron import points
from workloads.wide import Wide


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for value in values for tensor in tensors(value)]


def main(report: str, outputs: str, how: str, num_steps: int, device: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Wide().to(device)
    batches = {name: column[: 1 + num_steps].to(device) for name, column in points()["train"].items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    buffers: list[Tensor] = []
    commits = []
    for step in range(1 + num_steps):
        optimizer.zero_grad()
        model(**{name: column[step : step + 1] for name, column in batches.items()}).loss.backward()
        optimizer.step()
        if step == 0:
            state = [model.state_dict(), optimizer.state_dict()]
            buffers = [torch.zeros_like(t, device="cpu", pin_memory=t.is_cuda).copy_(t) for t in tensors(state)]
            continue
        began = time.perf_counter()
        state = [model.state_dict(), optimizer.state_dict()]
        if how == "copy":
            for buffer, tensor in zip(buffers, tensors(state), strict=True):
                buffer.copy_(tensor, non_blocking=True)
            if device == "cuda":
                torch.cuda.synchronize()
        else:
            torch.save(state, Path(outputs) / "last.pt")
        commits.append((began, time.perf_counter()))
    leave(Path(report), commits=commits)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5])
