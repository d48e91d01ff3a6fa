"""Move batches to the device while the step before is computed, and decode JPEG there where that is asked for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from figclip_cli.adapt.batches import Batch, JpegFrames
from figclip_cli.adapt.layout import Layout
from figclip_cli.errors import InputError, UsageError

Item = TypeVar("Item")


def choose_jpeg_decoder(asked: str, device: torch.device, *, stored_as_jpeg: bool) -> str:
    """Return ``cpu`` or ``nvjpeg``; raw frames need neither.

    Raises:
        UsageError: nvjpeg is asked for where it cannot be.
    """
    why = ""
    if device.type != "cuda":
        why = f"the device is {device.type}"
    elif not stored_as_jpeg:
        why = "the frames are stored raw"
    elif not _torchvision_decodes():
        why = "this torchvision decodes no JPEG"
    possible = not why
    if asked == "nvjpeg" and not possible:
        raise UsageError(f"--jpeg-decoder nvjpeg cannot be used: {why}", "leave it out")
    return "nvjpeg" if possible and asked != "cpu" else "cpu"


def _torchvision_decodes() -> bool:
    """Return whether torchvision still has what it has announced to give up."""
    try:
        from torchvision.io import decode_jpeg  # noqa: F401
    except ImportError:
        return False
    return True


def decoded_on(device: torch.device, frames: JpegFrames, size: int) -> Tensor:
    """Decode JPEG bytes on a device; return (F, size, size, 3) uint8.

    On a GPU this is nvJPEG, whose pixels differ from libjpeg's by small amounts.

    Raises:
        InputError: A picture is damaged or of another size.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    if not frames.lengths:
        return torch.empty(0, size, size, 3, dtype=torch.uint8, device=device)
    pictures = list(frames.data.split(list(frames.lengths)))
    try:
        decoded = torch.stack(decode_jpeg(pictures, mode=ImageReadMode.RGB, device=device))  # (F, 3, S, S)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError("a stored picture cannot be decoded", "extract the frames again") from error
    if decoded.shape[2:] != (size, size):
        raise InputError(f"a stored picture cannot be decoded to {size} x {size} pixels", "extract the frames again")
    return decoded.permute(0, 2, 3, 1)


def on_device(
    batches: Iterator[Batch], device: torch.device, size: int, known_texts: Callable[[Layout], Tensor | None]
) -> Iterator[Batch]:
    """Yield batches with frames, layout and known texts on the device.

    On a GPU a thread and a stream of their own do this for the next batch while the one before is in use.

    Args:
        size: Side of the frames in pixels.
        known_texts: Gives the features of a layout's texts, where they are known.
    """

    def moved(batch: Batch) -> Batch:
        layout, frames = batch.layout.to(device), batch.frames
        if isinstance(frames, JpegFrames):
            try:
                frames = decoded_on(device, frames, size)
            except InputError as error:
                raise InputError(f"{error.message}, of the clips {', '.join(layout.clip_ids)}", error.hint) from error
        return replace(batch, frames=frames.to(device, non_blocking=True), layout=layout, texts=known_texts(layout))

    if device.type != "cuda":
        yield from map(moved, batches)
        return
    copying = torch.cuda.Stream(device)

    def moved_aside(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.device(device), torch.cuda.stream(copying):
            return moved(batch), copying.record_event()

    for batch, copied in ahead(map(moved_aside, batches)):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(copied)
        for tensor in _tensors(batch):
            tensor.record_stream(computing)  # its memory is not for the other stream until computing is done
        yield batch


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items that a thread makes one ahead; what it raises is raised here, in its place."""
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Item | None, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                made.put((item, error), timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(None, error)
        else:
            put(None)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _tensors(batch: Batch) -> Iterator[Tensor]:
    values = (batch.frames, batch.texts, *vars(batch.layout).values())
    yield from (value for value in values if isinstance(value, Tensor) and value.is_cuda)
