"""Which of the stored frames a protocol takes; it refuses frames that were not sampled as it asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.frames import SamplingRecipe


@dataclass(frozen=True)
class FrameChoice:
    """Frames to take of a clip.

    Attributes:
        every: Take the middle one of each run of this many frames; 1 takes all.
        at_most: Then take this many at equal steps, where there are more; 0 is no limit.
    """

    every: int = 1
    at_most: int = 0

    def indices(self, stored: int) -> npt.NDArray[np.int64]:
        """Return which of ``stored`` frames to take, ascending.

        The equal steps of ``at_most`` go from the first frame to the last, cut to whole numbers, as CLIP4Clip's
        uniform slice does.
        """
        taken = np.arange(self.every // 2, stored, self.every)
        if self.at_most and len(taken) > self.at_most:
            return taken[np.linspace(0, len(taken) - 1, num=self.at_most).astype(np.int64)]
        return taken


def recipe_of(protocol: Protocol, *, size: int, crop: str) -> SamplingRecipe:
    """Return the recipe that extracts what a protocol takes.

    Args:
        size: Side of the model's input in pixels.
        crop: What the model wants, where the protocol says nothing.
    """
    crop = protocol.crop or crop
    if protocol.fps:
        return SamplingRecipe(size=size, crop=crop, policy="fps", fps=protocol.fps)
    if protocol.num_frames is None:
        return SamplingRecipe(size=size, crop=crop)
    return SamplingRecipe(events=1, frames_per_event=protocol.num_frames, size=size, crop=crop)


def choose_frames(protocol: Protocol, recipe: SamplingRecipe, where: str) -> FrameChoice:
    """Return which frames of a file a protocol takes.

    Midpoints of N equal parts are among those of M parts where M is an odd multiple of N.

    Args:
        recipe: How the file's frames were sampled.
        where: The file, for the message.

    Raises:
        InputError: The file was not sampled as the protocol asks; the hint is the command that does.
    """
    if protocol.crop is not None and protocol.crop != recipe.crop:
        raise _refusal(protocol, recipe, where, f"crop '{recipe.crop}'")
    if protocol.fps:
        if recipe.policy != "fps" or recipe.fps != protocol.fps:
            raise _refusal(protocol, recipe, where, _sampled(recipe))
        return FrameChoice(at_most=protocol.num_frames or 0)
    if protocol.num_frames is None:
        return FrameChoice()
    every, rest = divmod(recipe.frames, protocol.num_frames)
    if recipe.policy != "midpoints" or rest or every % 2 == 0:
        raise _refusal(protocol, recipe, where, _sampled(recipe))
    return FrameChoice(every)


def _sampled(recipe: SamplingRecipe) -> str:
    if recipe.is_ragged:
        return f"{recipe.fps:g} frames a second"
    return f"{recipe.frames} frames at {recipe.policy}"


def _refusal(protocol: Protocol, recipe: SamplingRecipe, where: str, has: str) -> InputError:
    wanted = recipe_of(protocol, size=recipe.size, crop=recipe.crop)
    sampling = f"--events 1 --frames-per-event {protocol.num_frames}"
    if wanted.is_ragged:
        sampling = f"--fps {wanted.fps:g}"
    elif protocol.num_frames is None:
        sampling = ""
    command = f"figclip extract-frames VIDEOS {sampling} --crop {wanted.crop} --size {wanted.size} -o FRAMES.h5"
    return InputError(
        f"{where} has {has}, the protocol '{protocol.name}' asks for {_sampled(wanted)}, crop '{wanted.crop}'",
        f"extract them with: {' '.join(command.split())}; or pass --videos FOLDER instead of --frames",
    )
