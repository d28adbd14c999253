"""Private names of torch's writer for TensorBoard, which is imported only where a run is shown there."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["file_writer"]


def file_writer(writer: "SummaryWriter") -> Any:
    """Return what writes events for `writer`: nothing public writes all metrics of a step as one event."""
    return writer._get_file_writer()  # type: ignore[no-untyped-call]
