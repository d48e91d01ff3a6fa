"""Clips of a frames file, whole or one event of them."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.errors import InputError
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.evaluate.visuals.frame_choice import choose_frames
from figclip_cli.evaluate.visuals.source import Pixels
from figclip_cli.frames import FramesReader

ClipLook = tuple[str, int | None]


class StoredClips:
    """Frames that a protocol takes of the clips of one or more frames files.

    A look is a clip id with the index of one of its events, or None for the whole clip.

    Args:
        reader: The frames.
        protocol: Which of them to take.
        place: Where a clip that is missing is not, for messages.

    Raises:
        InputError: The frames were not sampled as the protocol asks.
    """

    unit = "clips"
    reads_to_identify = False

    def __init__(self, reader: FramesReader, protocol: Protocol, *, place: str = "in the frames file") -> None:
        self.reader = reader
        self.choice = choose_frames(protocol, reader.recipe, str(reader.paths[0]))
        self._takes_all = self.choice.every == 1 and not self.choice.at_most
        self._usable = frozenset(reader.clip_ids)
        self._status = {row.clip_id: ": ".join(filter(None, (row.status, row.reason))) for row in reader.clips}
        self._place = place

    def why_missing(self, clip_id: str) -> str | None:
        """Return why a clip cannot be looked at, or None."""
        if clip_id in self._usable:
            return None
        return self._status.get(clip_id, f"not {self._place}")

    def example(self) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        which = f"ok clips such as '{min(self._usable)}'" if self._usable else "no ok clip"
        return f"{self.reader.paths[0]} has {which}"

    def identity(self, look: ClipLook) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        clip_id, event = look
        why = self.why_missing(clip_id)
        if why is not None:
            raise InputError(f"clip '{clip_id}': {why}", "its status is in the extraction report")
        chosen = "" if event is not None else f"{self.choice.every},{self.choice.at_most}"
        return f"clip|{self.reader.content_of_file(clip_id)}|{clip_id}|{event}|{chosen}"

    def read(self, look: ClipLook) -> Pixels:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        clip_id, event = look
        pixels = self.reader.read(clip_id)  # (events, frames, size, size, 3)
        if event is not None:
            return pixels[event]
        flat = pixels.reshape(-1, *pixels.shape[2:])
        return flat[self.choice.indices(len(flat))]

    def check(self, looks: Sequence[ClipLook]) -> None:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        events = self.reader.recipe.events
        of_events = [(clip_id, event) for clip_id, event in looks if event is not None]
        if of_events and not self._takes_all:
            raise InputError(
                "a protocol that chooses frames of whole clips has none for single events",
                "leave out --num-frames, or choose --protocol figclip",
            )
        beyond = next(((clip_id, event) for clip_id, event in of_events if event >= events), None)
        if beyond is not None:
            raise InputError(
                f"event {beyond[1]} of clip {beyond[0]} is asked for, the frames have {events} events",
                "extract the frames with as many --events as the annotation has",
            )
