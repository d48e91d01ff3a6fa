"""Clips of the synthetic world as real mp4 files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from figclip_cli.demo.drawing import SIZE, Drawing, Picture, add_noise
from figclip_cli.demo.poses import Stage
from figclip_cli.demo.scenario import ClipPlan
from figclip_cli.errors import MachineError

FRAMES_PER_SECOND = 8
EVENT_SECONDS = 2


def draw_clip(plan: ClipPlan) -> Picture:
    """Draw all frames of a clip, (80, 64, 64, 3) uint8 RGB."""
    count = FRAMES_PER_SECOND * EVENT_SECONDS
    pictures = np.empty((len(plan.events) * count, SIZE, SIZE, 3), dtype=np.uint8)
    for index, event in enumerate(plan.events):
        drawing = Drawing(plan.scene, event, Stage.of(f"{plan.clip_id}/{index}"))
        for frame in range(count):
            pictures[index * count + frame] = add_noise(drawing.at((frame + 0.5) / count), index * 5 + frame)
    return pictures


def write_mp4(path: Path, pictures: Sequence[Picture] | Picture) -> None:
    """Write pictures, all of one size, as an H.264 mp4 of 8 frames a second.

    Raises:
        MachineError: The file could not be written.
    """
    try:
        with av.open(str(path), "w", format="mp4") as container:
            options = {"preset": "ultrafast", "crf": "18", "threads": "1"}
            stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            stream.codec_context.time_base = Fraction(1, FRAMES_PER_SECOND)
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode())
    except (OSError, av.FFmpegError) as error:
        raise MachineError(f"{path} could not be written: {error}", "is there space left?") from error
