"""Videos as a head sees them: frames at equal steps, times relative to the duration, events, captions as tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from figclip_cli.evaluate.datasets.dense_captions import DenseVideo
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.heads.dense.head import VideoBatch
from figclip_cli.heads.dense.segments import centre_length
from figclip_cli.heads.frame_features import FrameFeatures

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VideoFrames:
    """Frames of one video.

    Attributes:
        features: (F, D) float32.
        times: (F,) float64 from 0 to 1, ascending.
        duration_seconds: Of the video.
    """

    features: Tensor
    times: Tensor
    duration_seconds: float


class VideoSource(Protocol):
    """Frames of videos, by id."""

    def take(self, clip_id: str) -> VideoFrames:
        """Return all frames of a video."""
        ...


class StoredVideos:
    """Frames that are read when they are asked for.

    Args:
        frames: Features.
        clips: Where their times are.
    """

    def __init__(self, frames: FrameFeatures, clips: StoredClips) -> None:
        self._frames, self._clips = frames, clips

    def take(self, clip_id: str) -> VideoFrames:
        """See :class:`VideoSource`."""
        row = self._clips.reader.row(clip_id)
        seconds = self._frames.pts_seconds(clip_id) - row.start_seconds
        times = np.clip(seconds / row.duration_seconds, 0.0, 1.0)
        return VideoFrames(self._frames.frames_of(clip_id), torch.from_numpy(times), row.duration_seconds)


def chosen_positions(frames: int, most: int) -> Tensor:
    """Return which of so many frames are looked at, ascending int64: all, or ``most`` at the middles of equal parts."""
    if frames <= most:
        return torch.arange(frames)
    return ((torch.arange(most, dtype=torch.float64) + 0.5) * frames / most).floor().to(torch.int64)


def make_batch(videos: Sequence[VideoFrames], positions: int, dtype: torch.dtype = torch.float32) -> VideoBatch:
    """Put videos of different lengths side by side.

    Args:
        positions: Frames of a video that are looked at, at most.
        dtype: Of features and times.
    """
    chosen = [chosen_positions(len(video.times), positions) for video in videos]
    features = [video.features[rows] for video, rows in zip(videos, chosen, strict=True)]
    times = [video.times[rows] for video, rows in zip(videos, chosen, strict=True)]
    lengths = torch.tensor([len(rows) for rows in chosen])
    there = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    minutes = [math.log(video.duration_seconds / 60) for video in videos]
    return VideoBatch(
        pad_sequence(features, batch_first=True).to(dtype),
        pad_sequence(times, batch_first=True).to(dtype),
        there,
        torch.tensor(minutes, dtype=torch.float64).to(dtype),
    )


def to_device(batch: VideoBatch, device: torch.device) -> VideoBatch:
    """Return the same on a device."""
    return VideoBatch(*(tensor.to(device) for tensor in batch))


@dataclass(frozen=True)
class Example:
    """One annotation of a video, as it is learned.

    Attributes:
        clip_id: Of the frames.
        segments: (n, 2) float64, centre and length from 0 to 1, n >= 1.
        sentences: n captions.
        annotated: What the file says, for scoring.
    """

    clip_id: str
    segments: Tensor
    sentences: tuple[str, ...]
    annotated: DenseVideo = field(repr=False)


@dataclass
class LeftOut:
    """Events that cannot be learned: counts, by why."""

    outside: int = 0
    empty_sentences: int = 0
    reversed_or_empty: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.outside + self.empty_sentences + self.reversed_or_empty

    def as_dict(self) -> dict[str, int]:
        """Return plain JSON values."""
        return {
            "outside_the_video": self.outside,
            "empty_sentences": self.empty_sentences,
            "reversed_or_empty_segments": self.reversed_or_empty,
        }


def make_example(clip_id: str, video: DenseVideo, duration_seconds: float, left_out: LeftOut) -> Example | None:
    """Return what can be learned of a video, None where that is nothing.

    Segments are cut at the ends of the video. Relative times are relative to the duration of the frames' video, since
    that is what is known where there is no annotation.

    Args:
        duration_seconds: Of the video that the frames are of.
        left_out: Counts what is left out.
    """
    kept, sentences = [], []
    for (start, end), sentence in zip(video.segments_seconds.tolist(), video.sentences, strict=True):
        begins, ends = max(0.0, start), min(duration_seconds, end)
        if start >= end:
            left_out.reversed_or_empty += 1
        elif begins >= ends:
            left_out.outside += 1
        elif not sentence:
            left_out.empty_sentences += 1
        else:
            kept.append((begins / duration_seconds, ends / duration_seconds))
            sentences.append(sentence)
    if not kept:
        return None
    return Example(clip_id, centre_length(torch.tensor(kept, dtype=torch.float64)), tuple(sentences), video)


def given_segments(segments_seconds: Floats, duration_seconds: float) -> Tensor:
    """Return segments as a head is given them: (n, 2) float64 centre and length from 0 to 1.

    One that runs backwards is turned round, and all are cut at the ends of the video: each gets a caption.
    """
    shares = np.clip(np.sort(segments_seconds, axis=1) / duration_seconds, 0.0, 1.0)
    return centre_length(torch.from_numpy(shares))


def other_durations(
    videos: Mapping[str, DenseVideo], durations: Mapping[str, float], *, share: float = 0.05
) -> list[str]:
    """Return the videos whose annotated duration differs by more than a share, and a second, from the frames' one."""
    return [
        name
        for name, video in videos.items()
        if abs(video.duration_seconds - durations[name]) > max(1.0, share * durations[name])
    ]


def pad_segments(segments: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return segments of videos side by side, (B, Q, 2), and which are there, (B, Q) bool."""
    lengths = torch.tensor([len(own) for own in segments])
    there = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    # What is not there stands in the middle, so that nothing is divided by zero.
    return pad_sequence(list(segments), batch_first=True, padding_value=0.5).to(dtype), there
