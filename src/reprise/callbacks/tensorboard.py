"""Shows the metrics in TensorBoard, beside `metrics.jsonl`, which remains the truth."""

from typing import Any

from reprise.callbacks import Callback, Outcome, Run


class TensorBoard(Callback):
    """Writes event files to `logs/tensorboard`. TensorBoard is imported with the first metrics, not before."""

    def __init__(self) -> None:
        self._writer: Any = None

    def on_commit(self, run: Run) -> None:
        loop = run.loop
        if not loop.logged:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted attempt wrote from this step on is hidden: it is written again.
            self._writer = SummaryWriter(str(run.directory.tensorboard), purge_step=loop.step)
        for name, value in loop.logged.items():
            self._writer.add_scalar(name, value, loop.step)

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        if self._writer is not None:
            self._writer.close()
