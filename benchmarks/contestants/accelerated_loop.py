"""A training loop on a GPU as people write it: autocast to bfloat16, pinned memory, a JSON line every ten steps.

python accelerated_loop.py REPORT OUTPUTS WORKLOAD DEVICE NUM_BATCHES AT…
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workloads.language import build_language_model, tokens
from workloads.marks import Marks
from workloads.sizes import WORKLOADS


def main(report: str, outputs: str, workload: str, device: str, num_batches: int, at: list[int]) -> None:
    model = build_language_model(workload).to(device)
    columns = tokens(workload, num_batches)
    loader = DataLoader(
        TensorDataset(*columns.values()),
        batch_size=WORKLOADS[workload].batch_size,
        shuffle=True,
        pin_memory=device == "cuda",
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / num_batches))
    marks = Marks(report, at)
    model.train()
    with (Path(outputs) / "log.jsonl").open("w") as log:
        for step, batch in enumerate(loader, 1):
            inputs, labels = (column.to(device, non_blocking=True) for column in batch)
            with torch.autocast(device, torch.bfloat16):
                loss = model(input_ids=inputs, labels=labels).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if step % 10 == 0:
                log.write(json.dumps({"step": step, "loss": loss.item(), "lr": scheduler.get_last_lr()[0]}) + "\n")
            marks.step_done(step)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), [int(step) for step in sys.argv[6:]])
