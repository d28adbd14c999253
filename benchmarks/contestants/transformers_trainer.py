"""The same training by `transformers.Trainer`.

python transformers_trainer.py REPORT OUTPUTS WORKLOAD DEVICE NUM_BATCHES AT…
"""

import sys
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from workloads.language import build_language_model, tokens
from workloads.marks import Marks
from workloads.sizes import WORKLOADS


class Samples(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, columns: dict[str, torch.Tensor]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns["labels"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: column[index] for name, column in self._columns.items()}


class Measurement(TrainerCallback):
    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._marks.step_done(state.global_step)


def main(report: str, outputs: str, workload: str, device: str, num_batches: int, at: list[int]) -> None:
    arguments = TrainingArguments(
        output_dir=outputs,
        per_device_train_batch_size=WORKLOADS[workload].batch_size,
        max_steps=num_batches,
        learning_rate=1e-4,
        weight_decay=0.01,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=device == "cpu",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
    )
    Trainer(
        build_language_model(workload),
        arguments,
        train_dataset=Samples(tokens(workload, num_batches)),
        callbacks=[Measurement(Marks(report, at))],
    ).train()


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), [int(step) for step in sys.argv[6:]])
