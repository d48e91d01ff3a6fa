"""From a batch of videos to events with captions: who is put out, with which score, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figclip_cli.heads.decoding import generate
from figclip_cli.heads.dense.head import DenseHead, Encoded, VideoBatch
from figclip_cli.heads.dense.options import DensePredictOptions
from figclip_cli.heads.dense.segments import start_end
from figclip_cli.heads.dense.videos import Floats, given_segments, pad_segments
from figclip_cli.heads.vocabulary import Vocabulary

_DECIMALS = 3  # of seconds


@dataclass(frozen=True)
class Proposal:
    """An event of a video.

    Attributes:
        start_seconds: From 0 to the duration.
        end_seconds: The same.
        sentence: Its caption.
        segment_score: Probability that it is one; 1 where it was given.
        caption_score: Log probability of the caption.
        score: What proposals are ranked by; see :func:`joint_score`.
    """

    start_seconds: float
    end_seconds: float
    sentence: str
    segment_score: float
    caption_score: float
    score: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as submissions have it; the scores are beside."""
        return {
            "sentence": self.sentence,
            "timestamp": [self.start_seconds, self.end_seconds],
            "proposal_score": self.segment_score,
            "sentence_score": self.caption_score,
            "score": self.score,
        }


@dataclass(frozen=True)
class _Rows:
    """Events about which captions are written: (n,) video, (n, W) events, (n, 2) segments, (n,) probabilities."""

    videos: Tensor
    events: Tensor
    segments: Tensor
    probabilities: Tensor


def joint_score(segment_score: float, caption_score: float, sentence: str, options: DensePredictOptions) -> float:
    """Return what proposals are ranked by (PDVC, section 3.4; the divisor is that of its code).

    It is the segment's probability plus the weighted log probability of the caption over its words to a power.
    """
    words = max(1, len(sentence.split()))
    return segment_score + options.caption_score_weight * caption_score / words**options.length_power


@torch.no_grad()
def propose(
    head: DenseHead,
    videos: VideoBatch,
    durations_seconds: Sequence[float],
    vocabulary: Vocabulary,
    options: DensePredictOptions,
) -> list[list[Proposal]]:
    """Find events in videos and write their captions.

    Args:
        head: In evaluation mode.

    Returns:
        For each video its proposals, ordered by time.
    """
    encoded = head.encode(videos)
    found = head.find(encoded)[-1]
    counts = [_count(row, options, head.sizes.queries) for row in found.counts]
    probabilities = found.logits.sigmoid()
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    # Captions that have no say in the ranking are written for those put out alone.
    written = [head.sizes.queries if options.caption_score_weight else count for count in counts]
    video = torch.cat([torch.full((count,), row) for row, count in enumerate(written)]).to(order.device)
    query = torch.cat([order[row, :count] for row, count in enumerate(written)])
    rows = _Rows(video, found.events[video, query], found.segments[video, query], probabilities[video, query])
    made = _captioned(head, encoded, rows, durations_seconds, vocabulary, options)
    kept = [sorted(own, key=lambda proposal: -proposal.score)[:count] for own, count in zip(made, counts, strict=True)]
    return [sorted(own, key=lambda p: (p.start_seconds, p.end_seconds, -p.score)) for own in kept]


def _count(logits: Tensor, options: DensePredictOptions, queries: int) -> int:
    """Return how many proposals a video gets, at least one."""
    wanted = int(logits.argmax()) if options.count is None else options.count
    return min(max(1, wanted), queries)


@torch.no_grad()
def describe(
    head: DenseHead,
    videos: VideoBatch,
    durations_seconds: Sequence[float],
    segments_seconds: Sequence[Floats],
    vocabulary: Vocabulary,
    options: DensePredictOptions,
) -> list[list[Proposal]]:
    """Write captions of given segments.

    Args:
        head: In evaluation mode.
        segments_seconds: For each video (n, 2) start and end.

    Returns:
        For each video its segments, as they were given and in that order, with captions.
    """
    encoded = head.encode(videos)
    device = encoded.frames.device
    given = [given_segments(own, d) for own, d in zip(segments_seconds, durations_seconds, strict=True)]
    segments, there = (tensor.to(device) for tensor in pad_segments(given, encoded.frames.dtype))
    events = head.look_at(encoded, segments, there)
    video, place = there.nonzero(as_tuple=True)
    sure = torch.ones(len(video), device=device, dtype=events.dtype)
    rows = _Rows(video, events[video, place], segments[video, place], sure)
    made = _captioned(head, encoded, rows, durations_seconds, vocabulary, options)
    return [
        [
            Proposal(start, end, one.sentence, one.segment_score, one.caption_score, one.score)
            for one, (start, end) in zip(own, times.tolist(), strict=True)
        ]
        for own, times in zip(made, segments_seconds, strict=True)
    ]


def _captioned(
    head: DenseHead,
    encoded: Encoded,
    rows: _Rows,
    durations_seconds: Sequence[float],
    vocabulary: Vocabulary,
    options: DensePredictOptions,
) -> list[list[Proposal]]:
    """Return the proposals of each video, in the order of the rows."""
    memory = head.caption_memory(encoded, rows.videos, rows.events, rows.segments)
    everything = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
    written = generate(head.captions, memory, everything, vocabulary, beams=options.beams)
    ends = start_end(rows.segments).clamp(0, 1).double().cpu().numpy()
    made: list[list[Proposal]] = [[] for _ in durations_seconds]
    numbers = zip(
        rows.videos.tolist(),
        ends,
        written.texts,
        rows.probabilities.float().tolist(),
        written.log_probabilities.float().tolist(),
        strict=True,
    )
    for video, shares, sentence, probability, log_probability in numbers:
        start, end = np.minimum(np.round(shares * durations_seconds[video], _DECIMALS), durations_seconds[video])
        score = float(np.float32(joint_score(probability, log_probability, sentence, options)))
        made[video].append(Proposal(float(start), float(end), sentence, probability, log_probability, score))
    return made
