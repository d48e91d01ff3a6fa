"""Zero-shot retrieval between clips and texts, by the image tower alone (the contextualizer is not used)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.captions import Captions, Query
from figclip_cli.evaluate.metrics.ranking import (
    HIGHER_IS_BETTER,
    Floats,
    MultiCaption,
    Ranks,
    Ties,
    bootstrap_metrics,
    retrieval_metrics,
    text_to_video_ranks,
    video_to_text_ranks,
)
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import FramesReader
from figclip_cli.models.adapted import attach_run
from figclip_cli.models.clip import Clip
from figclip_cli.models.pooling import Pooling, pool_frames
from figclip_cli.models.text_features import encode_distinct
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

BOOTSTRAP_DRAWS = 1000
BOOTSTRAP_SEED = 0
_FRAMES_PER_BATCH = 160

Item = tuple[str, int | None]


@dataclass(frozen=True)
class RetrievalOptions:
    """Choices that change the numbers; all are written into the result.

    Attributes:
        pooling: How frame features become a clip's.
        ties: What a tie counts.
        multi_caption: Definition of video-to-text where a clip has several texts.
    """

    pooling: Pooling = "mean-l2"
    ties: Ties = "average"
    multi_caption: MultiCaption = "max-per-video"


def evaluate_retrieval(
    clip: Clip,
    frames: FramesReader,
    captions: Captions,
    *,
    run: RunFolder | None = None,
    options: RetrievalOptions | None = None,
    reporter: Reporter = SILENT,
) -> Results:
    """Score texts against clips with the base model and, where a run is given, with the adapted one.

    Args:
        clip: The base model. With a run its adapter is attached to it, in place.
        run: A finished run that started from this base.

    Raises:
        InputError: No clip of the captions has frames.
        VerificationError: A model gives features that are not finite.
    """
    options = options or RetrievalOptions()
    queries, missing = _evaluable(captions, frames)
    items = list(dict.fromkeys((query.clip_id, query.event_index) for query in queries))
    kind = "clips" if queries[0].event_index is None else "events"
    asked = {(query.clip_id, query.event_index) for query in captions.queries}
    texts, row_of_query, overlong = _query_features(clip, queries, reporter)
    column = {item: index for index, item in enumerate(items)}
    own = np.array([column[query.clip_id, query.event_index] for query in queries], dtype=np.int64)

    def score() -> dict[str, Ranks]:
        # Equal texts are scored once and copied, so that their ties are exact whatever the matrix product does.
        videos = _item_features(clip, frames, items, options.pooling, reporter)
        scores = (texts @ videos.T).numpy()[row_of_query]
        return _directions(scores, own, options)

    by_model = {"base": score()}
    models: dict[str, dict[str, Any]] = {"base": {"name": clip.name, "sha256": clip.sha256}}
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    if run is not None:
        clip, config = attach_run(clip, run), run.load_config()
        if config["lora"]["towers"] != "image":  # the text tower is another one too
            texts, _, _ = _query_features(clip, queries, reporter)
        by_model["adapted"] = score()
        models["adapted"] = {"name": run.name, "adapter_sha256": sha256_of_file(run.adapter_file)}
        seeds["adapt"] = config["seed"]
    _report_ties(by_model, options.ties, reporter)
    return Results(
        task="zero-shot retrieval",
        dataset_id=captions.dataset_id,
        dataset_sha256=captions.sha256,
        asked={kind: len(asked), "texts": len(captions.queries)},
        evaluated={kind: len(items), "texts": len(queries)},
        missing=missing,
        protocol={
            "captions_format": captions.format,
            "level": "video" if kind == "clips" else "event",
            "zero_shot": True,
            "contextualizer": False,
            "pooling": options.pooling,
            "ties": options.ties,
            "video_to_text_multi_caption": options.multi_caption,
            "scores": "float32 cosine",
            "frames": frames.recipe.as_dict(),
            "frames_content_sha256": frames.content_sha256,
            "overlong_texts": overlong,
            "tied_queries": {m: {d: r.tied_queries for d, r in ranks.items()} for m, ranks in by_model.items()},
            "candidates": {direction: ranks.candidates for direction, ranks in by_model["base"].items()},
            "bootstrap_draws": BOOTSTRAP_DRAWS,
        },
        models=models,
        metrics=tuple(_metrics(by_model)),
        seeds=seeds,
    )


def _report_ties(by_model: dict[str, dict[str, Ranks]], rule: Ties, reporter: Reporter) -> None:
    for model, directions in by_model.items():
        for direction, ranks in directions.items():
            if ranks.tied_queries:
                share = f"{ranks.tied_queries} of {len(ranks.values)} queries"
                reporter.info(f"ties: {model} {direction}: the right item of {share} ties with a wrong one ({rule})")


def _evaluable(captions: Captions, frames: FramesReader) -> tuple[list[Query], dict[str, str]]:
    """Return the queries whose clip has ok frames, and the other clips with the reason."""
    usable, status = set(frames.clip_ids), {clip.clip_id: clip.status for clip in frames.clips}
    wanted = {query.clip_id for query in captions.queries}
    missing = {clip_id: status.get(clip_id, "not in the frames file") for clip_id in sorted(wanted - usable)}
    queries = [query for query in captions.queries if query.clip_id in usable]
    if not queries:
        raise InputError(
            f"frames and captions have no clip in common: '{min(wanted)}' is asked for, "
            f"the frames have {'ok clips such as ' + repr(min(usable)) if usable else 'no ok clip'}",
            "clip ids are the video files' names without ending",
        )
    events = frames.recipe.events
    beyond = next((q for q in queries if q.event_index is not None and q.event_index >= events), None)
    if beyond is not None:
        raise InputError(
            f"captions name event {beyond.event_index} of clip {beyond.clip_id}, the frames have {events} events",
            "extract the frames with as many --events as the annotation has",
        )
    return queries, missing


def _query_features(
    clip: Clip, queries: Sequence[Query], reporter: Reporter
) -> tuple[Tensor, npt.NDArray[np.int64], int]:
    """Return unit features (distinct, D) of distinct queries, the row of each query, and overlong texts."""
    distinct = list(dict.fromkeys(query.texts for query in queries))
    encoded = encode_distinct(clip, [text for texts in distinct for text in texts], reporter=reporter)
    means = torch.stack([encoded.gather(encoded.rows(texts)).mean(0) for texts in distinct])
    row_of = {texts: row for row, texts in enumerate(distinct)}
    rows = np.array([row_of[query.texts] for query in queries], dtype=np.int64)
    return F.normalize(means, dim=-1), rows, len(encoded.overlong)


@torch.no_grad()
def _item_features(
    clip: Clip, frames: FramesReader, items: Sequence[Item], pooling: Pooling, reporter: Reporter
) -> Tensor:
    """Return pooled features (items, D) float32 on the CPU; a clip is read and encoded once."""
    rows_of_clip: dict[str, list[tuple[int, int | None]]] = {}
    for row, (clip_id, event) in enumerate(items):
        rows_of_clip.setdefault(clip_id, []).append((row, event))
    features = torch.empty(len(items), clip.width)
    recipe = frames.recipe
    clips_per_batch = max(1, _FRAMES_PER_BATCH // (recipe.events * recipe.frames_per_event))
    clip_ids = list(rows_of_clip)
    with reporter.track(f"encode clips with {clip.name}", len(clip_ids), "clips") as progress:
        for start in range(0, len(clip_ids), clips_per_batch):
            part = clip_ids[start : start + clips_per_batch]
            pixels = torch.from_numpy(np.stack([frames.read(clip_id) for clip_id in part]))  # (B, P, T, S, S, 3)
            encoded = clip.encode_frames(pixels.flatten(0, 2)).float().cpu().unflatten(0, pixels.shape[:3])
            for clip_id, of_clip in zip(part, encoded, strict=True):  # of_clip: (P, T, D)
                for row, event in rows_of_clip[clip_id]:
                    features[row] = pool_frames(
                        of_clip.flatten(0, 1) if event is None else of_clip[event], pooling=pooling
                    )
            progress.advance(len(part))
    if not bool(features.isfinite().all()):
        raise VerificationError(f"{clip.name} gives features that are not finite", "its weights are damaged")
    return features


def _directions(
    scores: npt.NDArray[np.float32], own: npt.NDArray[np.int64], options: RetrievalOptions
) -> dict[str, Ranks]:
    return {
        "t2v": text_to_video_ranks(scores, own, ties=options.ties),
        "v2t": video_to_text_ranks(scores, own, ties=options.ties, multi_caption=options.multi_caption),
    }


def _metrics(by_model: dict[str, dict[str, Ranks]]) -> list[Metric]:
    made: list[Metric] = []
    for direction in by_model["base"]:
        values, draws = {}, {}
        for model, ranks in by_model.items():
            ranked = ranks[direction].values
            values[model] = retrieval_metrics(ranked)
            draws[model] = bootstrap_metrics(ranked, draws=BOOTSTRAP_DRAWS, seed=BOOTSTRAP_SEED)
        made += [_metric(direction, name, values, draws) for name in HIGHER_IS_BETTER]
    return made


def _metric(
    direction: str, name: str, values: dict[str, dict[str, Floats]], draws: dict[str, dict[str, Floats]]
) -> Metric:
    title, higher = f"{direction} {name}", HIGHER_IS_BETTER[name]
    base, base_error = float(values["base"][name]), float(draws["base"][name].std())
    if "adapted" not in values:
        return Metric(title, base, base_error, higher)
    adapted = float(values["adapted"][name])
    paired = draws["adapted"][name] - draws["base"][name]
    return Metric(
        title,
        adapted,
        float(draws["adapted"][name].std()),
        higher,
        base_value=base,
        base_standard_error=base_error,
        delta=adapted - base,
        delta_standard_error=float(paired.std()),
    )
