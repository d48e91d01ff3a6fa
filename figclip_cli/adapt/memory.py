"""How much memory a step needs: measured on one frame, since no formula knows every tower."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from figclip_cli.errors import MachineError
from figclip_cli.reporting import Reporter

# Of each trained value: itself, its gradient and AdamW's two moments.
_COPIES_OF_TRAINED = 4
# What PyTorch's allocator says on Linux and elsewhere; it has no exception of its own.
_SAID_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "not enough memory", "CUDA error: out of memory")


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a step needs.

    Attributes:
        weights: Of all weights, gradients and moments.
        of_frame: Activations that one frame keeps for the backward pass.
        frames: Frames in memory at once.
    """

    weights: int
    of_frame: int
    frames: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.of_frame * self.frames

    def describe(self) -> str:
        """Return one phrase for a person."""
        return (
            f"at least {readable(self.total)}: {readable(self.weights)} for weights and moments, "
            f"{readable(self.of_frame)} for each of {self.frames} frames"
        )


def readable(count: int) -> str:
    """Return a number of bytes for a person."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / (1 << 10):.0f} KiB"


def saved_bytes(encode: Callable[[Tensor], Tensor], inputs: Tensor, weights: Iterable[Tensor]) -> int:
    """Return the bytes that encoding ``inputs`` keeps for the backward pass, the weights themselves left out.

    Args:
        encode: Turns inputs into features that have gradients.
        weights: Tensors that are there anyway.
    """
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = encode(inputs)  # kept until the count is done, so that no address is used twice
    total = sum(seen.values())
    del features
    return total


def memory_need(
    encode: Callable[[Tensor], Tensor], one_frame: Tensor, weights: list[Tensor], frames: int
) -> MemoryNeed:
    """Return what a step with this many frames at once needs.

    Args:
        encode: Turns (n, S, S, 3) frames into features with gradients.
        one_frame: (1, S, S, 3) uint8.
        weights: All weights, trained or not.
    """
    trained = sum(w.numel() * w.element_size() for w in weights if w.requires_grad)
    frozen = sum(w.numel() * w.element_size() for w in weights if not w.requires_grad)
    return MemoryNeed(
        weights=frozen + _COPIES_OF_TRAINED * trained,
        of_frame=saved_bytes(encode, one_frame, weights),
        frames=frames,
    )


def available_bytes(device: torch.device) -> int | None:
    """Return the memory of a device that is free, or None where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_OF_MEMORY)


def advice(need: MemoryNeed, available: int | None, clips: int) -> str:
    """Return what to lower, with what it would need.

    Args:
        clips: Clips in memory at once.
    """
    if clips <= 1:
        return "pass --gradient-checkpointing or --precision bf16, or take a smaller model"
    target = clips // 2
    if available is not None and need.of_frame:
        fitting = (0.8 * available - need.weights) / (need.of_frame * need.frames / clips)
        target = max(1, min(target, int(fitting)))
    lower = MemoryNeed(need.weights, need.of_frame, max(1, round(need.frames * target / clips)))
    return f"pass --micro-batch-clips {target} ({lower.describe()}); or --gradient-checkpointing or --precision bf16"


def out_of_memory(need: Callable[[], MemoryNeed], device: torch.device, clips: int) -> MachineError:
    """Return the error that says what was too much and what to lower.

    Args:
        need: Measures what a step needs.
        clips: Clips that were in memory at once.
    """
    said = f"the {device.type} is out of memory with {clips} clips at once"
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        measured = need()
    except (RuntimeError, MemoryError):
        return MachineError(said, "even one frame does not fit: take a smaller model or another device")
    hint = advice(measured, available_bytes(device), clips)
    return MachineError(f"{said}: a step needs {measured.describe()}", hint)


def warn_of_memory(need: MemoryNeed, device: torch.device, reporter: Reporter) -> None:
    """Say what a step needs, and warn where the device does not have it: a CPU kills without a word.

    The weights are there already; what is still to come are mostly activations.
    """
    free = available_bytes(device)
    reporter.detail(f"a step needs {need.describe()}")
    if free is not None and need.of_frame * need.frames > free:
        reporter.warn(f"a step needs {need.describe()}; free are {readable(free)}: see --micro-batch-clips")
