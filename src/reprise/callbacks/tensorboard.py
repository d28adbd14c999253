"""Shows the metrics in TensorBoard, beside `metrics.jsonl`, which remains the truth."""

from typing import Any

from reprise.callbacks import Callback, Outcome, Run


class TensorBoard(Callback):
    """Writes event files to `logs/tensorboard`. TensorBoard is imported with the first metrics, not before."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._written_step = -1

    def on_run_start(self, run: Run) -> None:
        self._run = run

    def on_commit(self, run: Run) -> None:
        self._write()

    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        # What lies before a checkpoint is not written again by a run that carries on from it, so it must be on disk.
        self._write()
        if self._writer is not None:
            self._writer.flush()
        return {}

    def _write(self) -> None:
        loop = self._run.loop
        if not loop.logged or self._written_step == loop.step:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted attempt wrote from this step on is hidden: it is written again.
            self._writer = SummaryWriter(str(self._run.directory.tensorboard), purge_step=loop.step)
        for name, value in loop.logged.items():
            self._writer.add_scalar(name, value, loop.step)
        self._written_step = loop.step
