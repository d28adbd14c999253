"""The processes that `torchrun` started for one run: which is the first, what each takes, and what they tell another.

The first one writes and talks; the others only compute. A single process imports nothing of `torch.distributed`.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from reprise.errors import ProcessLost

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

Reduction = Literal["ring", "ordered"]

# How long one process waits for the others. A process that has died is not waited for: its connections break, and
# torchrun ends the rest. This is for one that hangs; writing a large checkpoint to a slow disk must fit in.
_TIMEOUT = timedelta(minutes=30)
_CONNECTION = re.compile(r"gloo|NCCL|Connection (reset|closed|refused)|Broken pipe", re.IGNORECASE)


@dataclass(frozen=True)
class Processes:
    """The processes of one run, seen from one of them. `local_rank` counts those on the same machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, device: "torch.device") -> Iterator[None]:
        """Be connected with the others inside the block, and leave it, without an error, together.

        Raises:
            ProcessLost: in place of what torch raises when another process is gone.
        """
        if self.size == 1:
            yield
            return
        import torch
        from torch import distributed

        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT, device_id=device if device.type == "cuda" else None)
        try:
            yield
            self.wait()
        except RuntimeError as error:
            explained = self.explained(error)
            if explained is error:
                raise
            raise explained from error
        distributed.destroy_process_group()

    def explained(self, error: BaseException) -> BaseException:
        """Return what an error comes down to: a `ProcessLost` if it is about the connection to another process."""
        cause: BaseException | None = error
        if isinstance(error, KeyboardInterrupt):  # torchrun's signal may overtake the news that a process is gone
            cause = error.__context__
        if self.size == 1 or not isinstance(cause, RuntimeError) or not _CONNECTION.search(str(cause)):
            return error
        lost = ProcessLost("another process of this run is gone; torchrun says which. The same command carries on")
        lost.__cause__ = cause
        return lost

    def share(self, num: int) -> range:
        """Return which of `num` things in a row are for this process; those of all processes follow one another."""
        return range(num * self.rank // self.size, num * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Return when every process has come here."""
        self.any(False)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any process has it set."""
        if self.size == 1:
            return flags
        return tuple(num > 0 for num in self._sums(*map(int, flags)))

    def total(self, num: int) -> int:
        """Return the sum of `num` over all processes."""
        return num if self.size == 1 else self._sums(num)[0]

    def from_first(self, value: T) -> T:
        """Return what the first process calls this with."""
        if self.size == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def at_first(self, value: T) -> list[T]:
        """Return what each process calls this with, in their order; the others get an empty list."""
        if self.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] | None = [None] * self.size if self.is_first else None
        distributed.gather_object(value, values)
        return values or []

    def rows(self, tensor: "Tensor") -> "Tensor":
        """Return the rows of all processes below one another; each has equally many."""
        if self.size == 1:
            return tensor
        import torch
        from torch import distributed

        everything = torch.empty((self.size * len(tensor), *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device)
        distributed.all_gather_into_tensor(everything, tensor.contiguous())
        return everything

    def _sums(self, *numbers: int) -> list[int]:
        import torch
        from torch import distributed

        tensor = torch.tensor(numbers)
        distributed.all_reduce(tensor)
        return tensor.tolist()


ALONE = Processes()


def find_processes() -> Processes:
    """Return what `torchrun` says in the environment; one process if it was not used."""
    environment = os.environ
    size = int(environment.get("WORLD_SIZE", 1))
    if size == 1 or "RANK" not in environment:
        return ALONE
    return Processes(int(environment["RANK"]), size, int(environment.get("LOCAL_RANK", 0)))


def be_alone() -> None:
    """Have this process and those that it starts take no part in what `torchrun` started."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
