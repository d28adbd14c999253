"""The floor: the same training with everything taken out that PyTorch does for generality.

An epoch is permuted once and its batches are views; all parameters lie in one buffer, and so do their gradients, so
that clipping and AdamW are one call each; the learning rate is one float; losses are kept as tensors and written once
an epoch.

python tuned_loop.py REPORT OUTPUTS NUM_THREADS MAX_EPOCHS AT…
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from workloads.marks import Marks
from workloads.perceptron import Perceptron, points

BATCH_SIZE, MAX_NORM = 32, 1.0


def into_one_buffer(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Move all parameters, and their gradients, into one buffer each; return the two."""
    parameters = list(model.parameters())
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradients = torch.zeros_like(weights)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, weight, gradient in zip(parameters, weights.split(sizes), gradients.split(sizes), strict=True):
        parameter.data = weight.view_as(parameter)
        parameter.grad = gradient.view_as(parameter)
    return weights, gradients


def main(report: str, outputs: str, num_threads: int, max_epochs: int, at: list[int]) -> None:
    torch.set_num_threads(num_threads)
    generator = torch.Generator().manual_seed(0)
    model, splits = Perceptron(), points()
    inputs, labels = splits["train"].values()
    val_batches = list(zip(*(column.split(BATCH_SIZE) for column in splits["val"].values()), strict=True))
    weights, gradients = into_one_buffer(model)
    means, squares, count = torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(())
    base_rate, warmup_steps, total_steps = 1e-3, 100, max_epochs * -(-len(inputs) // BATCH_SIZE)
    marks = Marks(report, at)
    step, val_loss = 0, None
    with (Path(outputs) / "log.jsonl").open("w") as log:
        for epoch in range(1, max_epochs + 1):
            order = torch.randperm(len(inputs), generator=generator)
            losses, rates = [], []
            for batch in zip(inputs[order].split(BATCH_SIZE), labels[order].split(BATCH_SIZE), strict=True):
                loss = model(*batch).loss
                loss.backward()
                if step < warmup_steps:
                    rate = base_rate * (step + 1) / warmup_steps
                else:
                    rate = base_rate * (1 - (step - warmup_steps) / (total_steps - warmup_steps))
                with torch.no_grad():
                    gradients.mul_((MAX_NORM / (torch.linalg.vector_norm(gradients) + 1e-6)).clamp_(max=1.0))
                    count += 1
                    torch._fused_adamw_(
                        [weights],
                        [gradients],
                        [means],
                        [squares],
                        [],
                        [count],
                        lr=rate,
                        beta1=0.9,
                        beta2=0.999,
                        weight_decay=0.01,
                        eps=1e-8,
                        amsgrad=False,
                        maximize=False,
                    )
                    gradients.zero_()
                step += 1
                losses.append(loss.detach())
                rates.append(rate)
                marks.step_done(step, val_loss=val_loss)
            first = step - len(losses) + 1
            for number, (value, rate) in enumerate(zip(torch.stack(losses).tolist(), rates, strict=True), first):
                log.write(json.dumps({"epoch": epoch, "step": number, "loss": value, "lr": rate}) + "\n")
            with torch.inference_mode():
                outputs_of_val = [model(*batch) for batch in val_batches]
                sizes = torch.tensor([len(batch[1]) for batch in val_batches])
                sums = torch.stack([output.loss for output in outputs_of_val]) * sizes
                val_loss = float(sums.sum() / sizes.sum())
            log.write(json.dumps({"epoch": epoch, "val_loss": val_loss}) + "\n")
            state = {"epoch": epoch, "weights": weights, "means": means, "squares": squares, "count": count}
            torch.save(state, Path(outputs) / "last.pt")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:5]), [int(step) for step in sys.argv[5:]])
