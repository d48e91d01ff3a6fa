"""The network: frames see each other, queries become events with segments, and captions are written about them.

After PDVC (Wang et al., ICCV 2021): all events of a video at once, a counter that says how many, segments that each
decoder layer moves, and a caption for each query. What differs is told in ``docs/heads.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from figclip_cli.heads.caption_decoder import CaptionDecoder, DecoderConfig
from figclip_cli.heads.dense.layers import BORDER_POINTS, DecoderLayer, EncoderLayer, Waves, perceptron
from figclip_cli.heads.dense.segments import start_end
from figclip_cli.heads.dense.sizes import DenseSizes

_INIT_STD = 0.02
_PRIOR = 0.1  # at first a query has an event with this probability
_FIRST_LENGTH = 0.25  # of all segments
_AROUND_CAPTION = 0.1  # of a segment's length a caption sees before and behind it
_AROUND_BORDERS = 0.5  # so much a query sees to find its borders
_LOGIT_EPSILON = 1e-5
_NOWHERE = 2.0  # time of a frame that is not there: behind all others


class VideoBatch(NamedTuple):
    """Frames of videos.

    Attributes:
        features: (B, N, D).
        times: (B, N) from 0 to 1, ascending.
        there: (B, N) bool; those that are there come first, at least one of each video.
        log_minutes: (B,) log of the duration in minutes.
    """

    features: Tensor
    times: Tensor
    there: Tensor
    log_minutes: Tensor


class Encoded(NamedTuple):
    """Frames that have seen each other: (B, N, W) both, with times and ``there`` as in :class:`VideoBatch`."""

    frames: Tensor
    places: Tensor
    times: Tensor
    there: Tensor


class Found(NamedTuple):
    """What one decoder layer says.

    Attributes:
        events: (B, Q, W).
        logits: (B, Q) that there is an event.
        segments: (B, Q, 2) centre and length, from 0 to 1.
        counts: (B, max_events + 1) logits of how many there are.
    """

    events: Tensor
    logits: Tensor
    segments: Tensor
    counts: Tensor


class DenseHead(nn.Module):
    """Finds events in videos, or takes given ones, and writes captions."""

    def __init__(self, sizes: DenseSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, layer = sizes.width, (sizes.width, sizes.attention_heads, sizes.dropout)
        self.input_norm = nn.LayerNorm(sizes.feature_width)
        self.input = nn.Linear(sizes.feature_width, width)
        self.duration = nn.Linear(1, width)
        self.waves = Waves(width, sizes.positions)
        self.place = nn.Linear(width, width)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(sizes.encoder_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.event_place = perceptron(width, width, inputs=2 * width)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(sizes.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.query = _embedding(1 if sizes.is_given else sizes.queries, width)
        if not sizes.is_given:
            self._add_proposals()
        self.caption_place = _embedding(1 + sizes.caption_points, width)
        self.captions = CaptionDecoder(
            DecoderConfig(
                sizes.vocabulary_size,
                width,
                sizes.caption_layers,
                sizes.attention_heads,
                sizes.max_tokens,
                sizes.dropout,
            )
        )

    def _add_proposals(self) -> None:
        width, count, layers = self.sizes.width, self.sizes.queries, range(self.sizes.decoder_layers)
        centres = (torch.arange(count) + 0.5) / count
        first = torch.stack([centres, torch.full_like(centres, _FIRST_LENGTH)], dim=-1)
        self.first_segments = nn.Parameter(_logit(first))
        self.classes = nn.ModuleList(nn.Linear(width, 1) for _ in layers)
        self.moves = nn.ModuleList(perceptron(width, 2) for _ in layers)
        self.counters = nn.ModuleList(nn.Linear(width, self.sizes.max_events + 1) for _ in layers)
        prior = _logit(torch.tensor(_PRIOR))
        for classes, moves in zip(self.classes, self.moves, strict=True):
            nn.init.constant_(classes.bias, float(prior))  # type: ignore[arg-type]
            for parameter in moves[-1].parameters():  # type: ignore[index]
                nn.init.zeros_(parameter)

    def encode(self, videos: VideoBatch) -> Encoded:
        """Let the frames of each video see each other."""
        places = self.place(self.waves(videos.times))
        frames = self.input(self.input_norm(videos.features)) + places
        frames = frames + self.duration(videos.log_minutes[:, None])[:, None]
        mask = videos.there[:, None, None]
        for layer in self.encoder:
            frames = layer(frames, places, mask)
        return Encoded(self.encoder_norm(frames), places, videos.times, videos.there)

    def find(self, encoded: Encoded) -> list[Found]:
        """Return what each decoder layer says of the events; the last one counts."""
        batch = len(encoded.frames)
        events = self.query.expand(batch, -1, -1)
        segments = self.first_segments.sigmoid().expand(batch, -1, -1)
        everyone = events.new_ones((batch, 1, 1, events.shape[1]), dtype=torch.bool)
        found = []
        for layer, classes, moves, counter in zip(self.decoder, self.classes, self.moves, self.counters, strict=True):
            events = self._look(layer, events, segments, everyone, encoded)
            normed = self.decoder_norm(events)
            segments = (_logit(segments) + moves(normed)).sigmoid()
            found.append(Found(normed, classes(normed)[..., 0], segments, counter(normed.amax(dim=1))))
            segments = segments.detach()  # each layer answers for its own move
        return found

    def look_at(self, encoded: Encoded, segments: Tensor, there: Tensor) -> Tensor:
        """Return what given events are, (B, Q, W), of segments (B, Q, 2) centre and length and there (B, Q) bool."""
        events = self.query.expand(*segments.shape[:2], -1)
        for layer in self.decoder:
            events = self._look(layer, events, segments, there[:, None, None], encoded)
        normed: Tensor = self.decoder_norm(events)
        return normed

    def _look(self, layer: nn.Module, events: Tensor, segments: Tensor, mask: Tensor, encoded: Encoded) -> Tensor:
        places = self.event_place(self.waves(segments).flatten(-2))
        bias = layer.bias(segments, encoded.times, encoded.there)  # type: ignore[operator]
        # (B, Q * points) places between frames: before, in and behind each segment.
        points = points_of(segments, BORDER_POINTS, _AROUND_BORDERS).flatten(1)
        region = between_frames(layer.region(encoded.frames), encoded, points)  # type: ignore[operator]
        region = region.unflatten(1, (-1, BORDER_POINTS)).flatten(2)
        looked: Tensor = layer(events, places, mask, encoded.frames, encoded.places, bias, region)
        return looked

    def caption_memory(self, encoded: Encoded, videos: Tensor, events: Tensor, segments: Tensor) -> Tensor:
        """Return what captions are written from: the event, and frames in and around its segment.

        Args:
            videos: (n,) int64, rows of ``encoded``.
            events: (n, W).
            segments: (n, 2) centre and length.

        Returns:
            (n, 1 + caption_points, W).
        """
        points = points_of(segments.detach(), self.sizes.caption_points, _AROUND_CAPTION)
        rows = Encoded(*(tensor[videos] for tensor in encoded))
        frames = between_frames(rows.frames, rows, points)
        return torch.cat([events[:, None], frames], dim=1) + self.caption_place


def points_of(segments: Tensor, count: int, around: float) -> Tensor:
    """Return the middles of equal parts of segments and what is around them.

    Args:
        segments: (..., 2) centre and length.
        count: Parts.
        around: Share of the length that is added before and behind.

    Returns:
        (..., count) from 0 to 1.
    """
    start, end = start_end(segments).unbind(-1)
    length = (end - start) * (1 + 2 * around)
    first = start - around * (end - start)
    steps = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return (first[..., None] + length[..., None] * steps).clamp(0, 1)


def between_frames(vectors: Tensor, encoded: Encoded, points: Tensor) -> Tensor:
    """Return vectors between frames: those before and behind a point, by their nearness.

    Args:
        vectors: (B, N, V), one of each frame.
        encoded: Says when the frames are.
        points: (B, K) from 0 to 1; before the first frame and behind the last one it is these.

    Returns:
        (B, K, V).
    """
    times = encoded.times.masked_fill(~encoded.there, _NOWHERE).contiguous()
    last = encoded.there.sum(1, keepdim=True) - 1
    behind = torch.searchsorted(times, points.contiguous())
    before, behind = (behind - 1).clamp_min(0).minimum(last), behind.minimum(last)
    first_time, gap = times.gather(1, before), times.gather(1, behind) - times.gather(1, before)
    share = torch.where(gap > 0, (points - first_time) / torch.where(gap > 0, gap, 1.0), 0.0)[..., None]
    rows = torch.arange(len(vectors), device=vectors.device)[:, None]
    return vectors[rows, before] * (1 - share) + vectors[rows, behind] * share


def _logit(shares: Tensor) -> Tensor:
    return torch.logit(shares, eps=_LOGIT_EPSILON)


def _embedding(count: int, width: int) -> nn.Parameter:
    made = nn.Parameter(torch.empty(count, width))
    nn.init.normal_(made, std=_INIT_STD)
    return made
