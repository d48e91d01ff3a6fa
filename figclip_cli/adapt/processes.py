"""The processes of one run, as torchrun starts them; a run without torchrun is a group of one.

Every process encodes its share of a batch's frames. Features are gathered, so that each process computes the loss of
the whole batch, as a single process would. In it a process's own features carry gradients and the others' are
constants: the sum over processes of the towers' gradients is then exactly the gradient of the whole loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from figclip_cli.errors import EndedElsewhere, FigclipError, MachineError, UsageError

Result = TypeVar("Result")
Stored = tuple[dict[str, Tensor], dict[str, Any]]
# Long enough for the first process to encode all texts while the others wait. A process that dies is noticed at once
# all the same: by torchrun, and by the broken connection.
_PATIENCE = timedelta(hours=12)


class Processes:
    """This process's place among those of the run.

    Attributes:
        rank: Number of this process, from 0.
        count: How many there are.
        device: Where this one computes.
    """

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank, self.count, self.device = rank, count, device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def on_first(self, work: Callable[[], Result]) -> Result:
        """Do work in the first process alone; all return its result, or end when it fails.

        Raises:
            EndedElsewhere: In the other processes, when the first one failed; it says why itself.
        """
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                outcome[0] = work()
            except Exception as error:
                failure = error
                outcome[1] = error.exit_code if isinstance(error, FigclipError) else 1
        with explaining_lost_processes():
            dist.broadcast_object_list(outcome, src=0)
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise EndedElsewhere(outcome[1])
        result: Result = outcome[0]
        return result

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Do work in the first process and, when it succeeded there, in the others; return each one's own result.

        A mistake that all would find is thus told once, and what the first one leaves on disk is found by the others.
        """
        if not self.is_first:
            self.on_first(lambda: None)
            return work()
        done: list[Result] = []
        self.on_first(lambda: done.append(work()))
        return done[0]

    def shared(self, read: Callable[[], Stored | None]) -> Stored | None:
        """Return the tensors and metadata that the first process reads, in every process, on the CPU.

        The others may not see the same disk, or not yet.
        """
        if self.count == 1:
            return read()
        found: list[Stored | None] = []

        def describe() -> tuple[dict[str, tuple[torch.Size, torch.dtype]], dict[str, Any]] | None:
            stored = read()
            found.append(stored)
            return None if stored is None else ({k: (t.shape, t.dtype) for k, t in stored[0].items()}, stored[1])

        about = self.on_first(describe)
        if about is None:
            return None
        kinds, metadata = about
        tensors = found[0][0] if found and found[0] else {k: torch.empty(s, dtype=d) for k, (s, d) in kinds.items()}
        for name in kinds:
            sent = tensors[name].to(self.device)
            with explaining_lost_processes():
                dist.broadcast(sent, src=0)
            tensors[name] = sent.cpu()
        return tensors, metadata

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        told = torch.tensor([int(flag)], device=self.device)
        with explaining_lost_processes():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes in order; only this process's own carry gradients.

        Args:
            own: (counts[rank], D), this process's rows.
            counts: Rows of each process.
        """
        if self.count == 1:
            return own
        sent = own.new_zeros(max(counts), *own.shape[1:])  # equal shapes, as gathering wants them
        sent[: len(own)] = own.detach()
        received = [torch.empty_like(sent) for _ in counts]
        with explaining_lost_processes():
            dist.all_gather(received, sent)
        parts = [rows[:count] for rows, count in zip(received, counts, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[Tensor], *, mean: bool = False) -> None:
        """Replace each gradient by the sum (or the mean) over processes; a missing one counts as zeros."""
        if self.count == 1:
            return
        wanted = list(parameters)
        if not wanted:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in wanted])
        with explaining_lost_processes():
            dist.all_reduce(flat)
        if mean:
            flat /= self.count
        for parameter, gradient in zip(wanted, flat.split([p.numel() for p in wanted]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def same_start(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.count > 1:
            with explaining_lost_processes():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: Where to compute; under torchrun on GPUs each process takes the GPU of its local number.

    Raises:
        UsageError: There are fewer GPUs than processes on this machine.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UsageError(f"there are {torch.cuda.device_count()} GPUs for more processes", "lower --nproc-per-node")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


@contextmanager
def explaining_lost_processes() -> Iterator[None]:
    """Turn the failure of a collective call, which means that another process is gone, into one line."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise MachineError(
            "another process of this run has ended",
            "its own message says why; run the same command with --resume to go on from the last checkpoint",
        ) from error
