"""Attention over frames and events: plain, with a leaning towards the frames of an event's own segment.

PDVC samples a few frames for each query (deformable attention), so that its cost does not grow with the video. With
some 200 frames at most there is nothing to save; the leaning (Gao et al., ICCV 2021) keeps what makes it learn fast.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_LENGTH = 0.02  # of a segment, where the leaning is measured in its length
_MOST_LEANING = 30.0
_INITIAL_LEANING = 0.5
BORDER_POINTS = 16  # where a query looks for its borders: in its segment and half its length around
_REGION_SHARE = 4  # of the width that each of these points has


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return (B, Q, W).

        Args:
            queries: (B, Q, W).
            keys: (B, N, W).
            values: (B, N, W).
            mask: Broadcast to (B, heads, Q, N): bool, true where a key is there, or what is added to the scores.
        """
        parts = (self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(values)))
        rate = self._dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(*parts, attn_mask=mask, dropout_p=rate)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class Waves(nn.Module):
    """Turns numbers from 0 to 1 into sines and cosines, from half a wave to one that tells neighbours apart.

    Args:
        width: Of the result, even.
        finest: Neighbours among so many are told apart.
    """

    frequencies: Tensor

    def __init__(self, width: int, finest: int) -> None:
        super().__init__()
        octaves = torch.linspace(0, math.log2(max(2, finest)), width // 2, dtype=torch.float64)
        # In float64, so that a head in double precision is more exact and not only longer.
        self.register_buffer("frequencies", math.pi * 2**octaves, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return (..., width) of (...)."""
        angles = numbers[..., None] * self.frequencies.to(numbers.dtype)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class EncoderLayer(nn.Module):
    """Frames see each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed = feed_forward(width, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N, W) of frames and their places in time, (B, N, W) both, and mask (B, 1, 1, N) bool."""
        normed = self.norm(frames)
        placed = normed + places
        frames = frames + self.drop(self.attention(placed, placed, normed, mask))
        return frames + self.drop(self.feed(self.feed_norm(frames)))


class DecoderLayer(nn.Module):
    """Events see each other, and the frames."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own_norm, self.frame_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.own_attention = Attention(width, heads, dropout)
        self.frame_attention = Attention(width, heads, dropout)
        self.leaning = nn.Parameter(torch.full((heads,), math.log(math.expm1(_INITIAL_LEANING))))
        self.region = nn.Linear(width, max(1, width // _REGION_SHARE))
        self.region_in = nn.Linear(BORDER_POINTS * max(1, width // _REGION_SHARE), width)
        self.feed = feed_forward(width, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        events: Tensor,
        event_places: Tensor,
        event_mask: Tensor,
        frames: Tensor,
        places: Tensor,
        bias: Tensor,
        region: Tensor,
    ) -> Tensor:
        """Return (B, Q, W).

        Args:
            events: (B, Q, W).
            event_places: (B, Q, W), made of their segments.
            event_mask: (B, 1, 1, Q) bool.
            frames: (B, N, W).
            places: (B, N, W), made of their times.
            bias: (B, heads, Q, N), added to the scores of frames; see :meth:`bias`.
            region: (B, Q, BORDER_POINTS * width of ``self.region``), what is seen at points relative to segments.
        """
        normed = self.own_norm(events)
        placed = normed + event_places
        events = events + self.drop(self.own_attention(placed, placed, normed, event_mask))
        placed = self.frame_norm(events) + event_places
        events = events + self.drop(self.frame_attention(placed, frames + places, frames, bias))
        events = events + self.drop(self.region_in(region))
        return events + self.drop(self.feed(self.feed_norm(events)))

    def bias(self, segments: Tensor, times: Tensor, there: Tensor) -> Tensor:
        """Return how far each head leans from each frame, (B, heads, Q, N); minus infinity where there is none.

        Args:
            segments: (B, Q, 2) centre and length.
            times: (B, N) from 0 to 1.
            there: (B, N) bool.
        """
        centre, length = segments[..., :1], segments[..., 1:]
        distance = (times[:, None] - centre) / (length / 2 + _LEAST_LENGTH)  # (B, Q, N)
        leaning = F.softplus(self.leaning)[:, None, None] * distance[:, None] ** 2
        return (-leaning.clamp_max(_MOST_LEANING)).masked_fill(~there[:, None, None], float("-inf"))


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """Return the two layers between a transformer's attentions."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))


def perceptron(width: int, out: int, *, inputs: int | None = None) -> nn.Sequential:
    """Return a small network with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs or width, width), nn.GELU(), nn.Linear(width, out))
