"""Single frames of stored clips: of a clip's pictures only the one that is looked at is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.clips import StoredClips
from figclip_cli.evaluate.visuals.source import Pixels
from figclip_cli.frames.preprocess import decode_jpeg

FrameLook = tuple[str, int]
# Frames of a clip are asked for one after another, by a few threads at once.
_CLIPS_HELD = 4


class SingleFrames:
    """Frames of the clips of one or more frames files, each for itself.

    A look is a clip id with the number of a frame, counted over the clip as it is stored.

    Args:
        clips: The clips, and which of their frames a protocol takes.
    """

    unit = "frames"
    reads_to_identify = False

    def __init__(self, clips: StoredClips) -> None:
        self.clips = clips
        self._reader = clips.reader
        self._pictures = lru_cache(maxsize=_CLIPS_HELD)(clips.reader.stored)

    def numbers(self, clip_id: str) -> list[int]:
        """Return the numbers of the frames that the protocol takes of a clip, ascending.

        Raises:
            InputError: There is no such clip.
        """
        return self.clips.choice.indices(self._count(clip_id)).tolist()

    def check(self, looks: Sequence[FrameLook]) -> None:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`; any frame may be there."""

    def why_missing(self, clip_id: str) -> str | None:
        """Return why a clip cannot be looked at, or None."""
        return self.clips.why_missing(clip_id)

    def example(self) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        return self.clips.example()

    def identity(self, look: FrameLook) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        clip_id, number = look
        why = self.why_missing(clip_id)
        if why is not None:
            raise InputError(f"clip '{clip_id}': {why}", "its status is in the extraction report")
        return f"frame|{self._reader.content_of_file(clip_id)}|{clip_id}|{number}"

    def read(self, look: FrameLook) -> Pixels:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        clip_id, number = look
        pictures = self._pictures(clip_id)
        if not 0 <= number < len(pictures):
            raise InputError(f"clip '{clip_id}' has {len(pictures)} frames, frame {number} is asked for", "")
        return self._decoded(pictures[number], f"frame {number} of clip '{clip_id}'")[None]

    def _count(self, clip_id: str) -> int:
        recipe = self._reader.recipe
        return self._reader.pts_seconds(clip_id).size if recipe.is_ragged else recipe.frames

    def _decoded(self, picture: bytes, where: str) -> Pixels:
        recipe = self._reader.recipe
        shape = (recipe.size, recipe.size, 3)
        try:
            pixels = np.frombuffer(picture, np.uint8) if recipe.storage == "raw" else decode_jpeg(picture)
            if recipe.storage != "raw" and pixels.shape != shape:
                raise ValueError(f"it has shape {pixels.shape}, not {shape}")
            return pixels.reshape(shape)
        except (OSError, ValueError, TypeError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
            said = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise InputError(f"{where} is damaged: {said}", "extract again") from error
