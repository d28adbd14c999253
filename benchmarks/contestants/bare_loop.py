"""A training loop as people write it: DataLoader, AdamW as it comes, LambdaLR, a JSON line a step, torch.save an epoch.

python bare_loop.py REPORT OUTPUTS WORKLOAD AT…    (the workloads are those below; AT counts steps from 1)
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workloads.marks import Marks


def build(workload: str) -> tuple[nn.Module, dict[str, dict[str, torch.Tensor]]]:
    if workload == "perceptron":
        from workloads.perceptron import Perceptron, points

        return Perceptron(), points()
    from workloads.vit import build_vit, images

    return build_vit(hidden_size=192, num_layers=6), images()


def main(report: str, outputs: str, workload: str, num_threads: int, max_epochs: int, at: list[int]) -> None:
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    model, splits = build(workload)
    names = list(splits["train"])
    train_set, val_set = (TensorDataset(*splits[name].values()) for name in ("train", "val"))
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    warmup_steps, total_steps = 100, max_epochs * len(train_loader)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, 1 - (step - warmup_steps) / max(1, total_steps - warmup_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    marks = Marks(report, at)
    step, val_loss = 0, None
    with (Path(outputs) / "log.jsonl").open("w") as log:
        for epoch in range(1, max_epochs + 1):
            model.train()
            for columns in train_loader:
                batch = dict(zip(names, columns, strict=True))
                optimizer.zero_grad()
                loss = model(**batch).loss
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                step += 1
                line = {"epoch": epoch, "step": step, "loss": loss.item(), "lr": scheduler.get_last_lr()[0]}
                log.write(json.dumps(line) + "\n")
                marks.step_done(step, val_loss=val_loss)
            model.eval()
            loss_sum, num_correct = 0.0, 0
            with torch.no_grad():
                for columns in val_loader:
                    batch = dict(zip(names, columns, strict=True))
                    output = model(**batch)
                    loss_sum += output.loss.item() * len(batch["labels"])
                    num_correct += (output.logits.argmax(-1) == batch["labels"]).sum().item()
            val_loss = loss_sum / len(val_set)
            line = {"epoch": epoch, "val_loss": val_loss, "val_accuracy": num_correct / len(val_set)}
            log.write(json.dumps(line) + "\n")
            state = {
                "epoch": epoch,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
            }
            torch.save(state, Path(outputs) / "last.pt")


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:6]), [int(step) for step in sys.argv[6:]])
