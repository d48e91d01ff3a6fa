"""The clips or events that are nearest to a text, with ties told and nothing left out in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.embed import clip_looks, look_name, model_facts, usable_clips
from figclip_cli.evaluate.encoders import BASE, Encoder, Encoding, encoders
from figclip_cli.evaluate.metrics.exact_scores import Block, exact_product, exact_scores, make_block
from figclip_cli.evaluate.visuals import StoredClips, VisualFeatures
from figclip_cli.evaluate.visuals.clips import ClipLook
from figclip_cli.models.clip import Clip
from figclip_cli.run_folder import RunFolder

SearchLevel = Literal["clip", "event"]
_MOST_ROWS, _LEAST_ROWS = 8192, 256
_SCORES_AT_ONCE = 1 << 22  # of all queries with the rows of a block: about 50 MB


@dataclass(frozen=True)
class Hit:
    """A clip or event that was found.

    Attributes:
        rank: From 1.
        score: Product of the text's feature and the pooled one, exact and rounded to float32; a cosine except under
            ``l2-mean``.
        is_tied: Whether another look has the same score; the one that is stored first then comes first.
        clip_id: The clip.
        event_index: Which event of it, from 0; None for the whole clip.
        pts_seconds: Times of its frames that were looked at, in seconds from the start of its file.
        source_path: The video.
        base_rank: Its rank under the base model, from 1; None where that was not asked for.
    """

    rank: int
    score: float
    is_tied: bool
    clip_id: str
    event_index: int | None
    pts_seconds: tuple[float | None, ...]
    source_path: str
    base_rank: int | None = None


@dataclass(frozen=True)
class Found:
    """What was found for one query, best first."""

    query: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class SearchResult:
    """What was found for each query, and in how much.

    Attributes:
        found: One for each query, in the order asked.
        level: ``clip`` or ``event``.
        model: Name and hashes of the model that searched.
        asked: Clips in the frames files.
        searched: Clips of which all looks were searched.
        missing: The others, with the reason; those that are not ok in the frames files among them.
        damaged: Those that are ok there and still cannot be read.
    """

    found: tuple[Found, ...]
    level: SearchLevel
    model: dict[str, Any]
    asked: int
    searched: int
    missing: Mapping[str, str]
    damaged: tuple[str, ...]


def search(
    clip: Clip,
    run: RunFolder | None,
    source: StoredClips,
    queries: Sequence[str],
    *,
    encoding: Encoding,
    level: SearchLevel = "clip",
    top: int = 10,
    compare_base: bool = False,
) -> SearchResult:
    """Find the looks with the highest scores for each query.

    Args:
        clip: The base model. With a run its adapter is attached to it, in place.
        run: The run that searches; None for the base.
        compare_base: Also say which rank each hit has under the base model.

    Raises:
        InputError: No clip can be read, or events are asked for, of which the protocol does not take all frames.
    """
    _, missing = usable_clips(source)
    looks = clip_looks(source, level)
    base: tuple[VisualFeatures, Tensor] | None = None
    for encoder in encoders(clip, run, encoding):
        if encoder.label == BASE and run is not None and not compare_base:
            continue
        texts = _query_features(encoder, queries)
        features = encoder.looks(source, looks)
        if encoder.label == BASE and compare_base:
            base = features, texts
    if not len(features):
        raise InputError(_nothing(source, missing, features.failed), "see figclip inspect; extract the frames again")
    scores, rows = best(features, texts, top + 1)  # one more, to see whether the last one shown is tied
    base_ranks = torch.zeros_like(rows) if base is None else _base_ranks(features, rows, *base)
    found = [
        Found(query, tuple(_hits(source, features, scores[number], rows[number], base_ranks[number], top)))
        for number, query in enumerate(queries)
    ]
    _report_ties(found, encoding)
    damaged = {look_name(look, level): why for look, why in features.failed.items()}
    failed_clips = {clip_id for clip_id, _ in features.failed}
    return SearchResult(
        found=tuple(found),
        level=level,
        model=model_facts(encoder),
        asked=len(source.reader.clips),
        searched=len(source.reader.clip_ids) - len(failed_clips),
        missing=missing | damaged,
        damaged=tuple(damaged),
    )


def best(features: VisualFeatures, texts: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores of each text, and the rows that have them.

    Args:
        features: (n, D), read in blocks.
        texts: (q, D) float32.
        top: k; fewer are returned where there are fewer rows.

    Returns:
        (q, k) float32, descending, and (q, k) int64; of equal scores the lower row comes first.
    """
    scores, rows = torch.empty(len(texts), 0), torch.empty(len(texts), 0, dtype=torch.int64)
    for numbers, block in _score_blocks(features, texts):
        joined = torch.cat([scores, block], dim=1).sort(dim=1, descending=True, stable=True)
        scores = joined.values[:, :top].clone()
        rows = torch.cat([rows, numbers.expand(len(texts), -1)], dim=1).gather(1, joined.indices[:, :top])
    return scores, rows


def ranks_of(features: VisualFeatures, texts: Tensor, rows: Tensor) -> Tensor:
    """Return the rank, from 1, that each of some rows has for its text.

    Args:
        features: (n, D), read in blocks.
        texts: (q, D) float32.
        rows: (q, k) int64.

    Returns:
        (q, k) int64; of equal scores the lower row comes first.
    """
    pairs = zip(rows, texts, strict=True)
    own = torch.stack([exact_scores(features.take(some), text.expand(len(some), -1)) for some, text in pairs])
    ahead = torch.zeros_like(rows)
    for numbers, block in _score_blocks(features, texts):
        ordered = block.sort(dim=1).values
        not_lower, higher = (len(numbers) - torch.searchsorted(ordered, own, right=above) for above in (False, True))
        first, last = int(numbers[0]), int(numbers[-1])
        ahead += torch.where(rows > last, not_lower, higher)
        for query, place in ((rows >= first) & (rows <= last)).nonzero().tolist():
            ahead[query, place] += (block[query, : rows[query, place] - first] == own[query, place]).sum()
    return ahead + 1


def _score_blocks(features: VisualFeatures, texts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield row numbers (r,) with the scores of all texts, (q, r) float32."""
    size = min(_MOST_ROWS, max(_LEAST_ROWS, _SCORES_AT_ONCE // len(texts)))
    measured = make_block(texts)
    for start in range(0, len(features), size):
        stop = min(start + size, len(features))
        yield torch.arange(start, stop), _scores(features.rows(start, stop), measured)


def _scores(rows: Tensor, texts: Block) -> Tensor:
    """Return (q, n) float32, exact products rounded once: the same whatever the block."""
    scores = torch.empty(len(texts.features), len(rows))
    exact_product(texts, make_block(rows), scores)
    return scores


def _query_features(encoder: Encoder, queries: Sequence[str]) -> Tensor:
    encoded = encoder.texts(queries)
    return encoded.gather(encoded.rows(queries))


def _base_ranks(features: VisualFeatures, rows: Tensor, base: VisualFeatures, texts: Tensor) -> Tensor:
    """Return ranks under the base; 0 where the base has no feature of a look."""
    if not len(base):
        return torch.zeros_like(rows)
    row_of = {look: row for row, look in enumerate(base.looks)}
    in_base = torch.tensor([[row_of.get(features.looks[row], -1) for row in some] for some in rows.tolist()])
    ranks = ranks_of(base, texts, in_base.clamp(min=0))
    return torch.where(in_base < 0, 0, ranks)


def _hits(
    source: StoredClips, features: VisualFeatures, scores: Tensor, rows: Tensor, base_ranks: Tensor, top: int
) -> Iterator[Hit]:
    values = scores.tolist()
    for place, (row, base_rank) in enumerate(zip(rows[:top].tolist(), base_ranks[:top].tolist(), strict=True)):
        look: ClipLook = features.looks[row]
        neighbours = values[max(0, place - 1) : place] + values[place + 1 : place + 2]
        yield Hit(
            rank=place + 1,
            score=values[place],
            is_tied=values[place] in neighbours,
            clip_id=look[0],
            event_index=look[1],
            pts_seconds=_pts_seconds(source, look),
            source_path=source.reader.row(look[0]).source_path,
            base_rank=base_rank or None,
        )


def _pts_seconds(source: StoredClips, look: ClipLook) -> tuple[float | None, ...]:
    times = source.reader.pts_seconds(look[0])
    chosen = times.ravel()[source.choice.indices(times.size)] if look[1] is None else times[look[1]]
    return tuple(time if math.isfinite(time) else None for time in chosen.tolist())


def _report_ties(found: Sequence[Found], encoding: Encoding) -> None:
    for one in found:
        tied = sum(hit.is_tied for hit in one.hits)
        if tied:
            shown = f"{tied} of {len(one.hits)} hits of '{one.query}' have the score of another"
            encoding.reporter.info(f"ties: {shown}; what is stored first comes first")


def _nothing(source: StoredClips, missing: Mapping[str, str], failed: Mapping[Any, str]) -> str:
    reasons = {**missing, **{look[0]: why for look, why in failed.items()}}
    first = next((f"; the first is {name}: {why}" for name, why in reasons.items()), "")
    return f"no clip of {source.reader.paths[0]} can be searched{first}"
