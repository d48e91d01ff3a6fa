"""Zero-shot retrieval between clips and texts, by the image tower alone, or through a run's contextualizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.evaluate.contextual_reading import contextualizer_for, reading_facts
from figclip_cli.evaluate.datasets.captions import Captions, Query
from figclip_cli.evaluate.encoders import BASE, WHOLE, Encoder, Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.looked_at import SCORES, Tested, failed_names, model_facts, score_models, split_present
from figclip_cli.evaluate.metrics.ranking import Ranks
from figclip_cli.evaluate.metrics.streamed_ranks import Rows, TensorRows, streamed_ranks
from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.retrieval_numbers import Item, RetrievalNumbers
from figclip_cli.evaluate.task_options import RetrievalOptions
from figclip_cli.evaluate.visuals import StoredClips, VisualFeatures
from figclip_cli.evaluate.visuals.contextual import Contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.text_features import TextFeatures
from figclip_cli.run_folder import RunFolder

_IN_MEMORY_BYTES = 1 << 29  # features up to this size are held, larger ones are read block by block


TASK = "zero-shot retrieval"


@dataclass(frozen=True)
class _Ranked:
    """What one model made of the queries: ranks by direction, and how many texts it saw no end of."""

    ranks: Mapping[str, Ranks]
    overlong: int


def evaluate_retrieval(
    clip: Clip,
    source: StoredClips,
    captions: Captions,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: RetrievalOptions | None = None,
) -> Evaluation:
    """Score texts against clips with the base model and, where a run is given, with the adapted one.

    Args:
        clip: The base model. With a run its adapter is attached to it, in place.
        source: Frames of the clips.
        run: A finished run that started from this base.

    Raises:
        InputError: No clip of the captions has frames.
        VerificationError: A model gives features that are not finite.
    """
    return evaluate_retrieval_at(WHOLE, clip, source, captions, encoding=encoding, run=run, options=options)[0]


def evaluate_retrieval_at(
    scales: Sequence[float],
    clip: Clip,
    source: StoredClips,
    captions: Captions,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: RetrievalOptions | None = None,
) -> list[Evaluation]:
    """Do as :func:`evaluate_retrieval` with the run at each scale; one evaluation without a run.

    Args:
        scales: From 0, the base, to 1, the run as it is.
    """
    options = options or RetrievalOptions()
    if captions.events_per_clip is not None:
        source.reader.require_events(captions.events_per_clip)
    wanted = list(dict.fromkeys(map(_item, captions.queries)))
    items, missing = split_present(source, wanted)
    reader = contextualizer_for(
        options.features, run, clip, source, items, encoding.protocol, scales=scales, reporter=encoding.reporter
    )

    def score(encoder: Encoder, found: VisualFeatures) -> _Ranked:
        queries = _present(captions, found)
        texts = encoder.texts([text for query in queries for text in query.texts])
        ranks = _rank(encoder, found, texts, queries, options)
        _report_ties(encoder, ranks, options.ties)
        return _Ranked(ranks, len(texts.overlong))

    scores = score_models(clip, run, encoding, source, items, score, scales, reader)
    missing |= failed_names(scores.first)
    return [
        _evaluation(source, captions, encoding, options, scores.first, missing, tested, reader)
        for tested in scores.evaluations()
    ]


def _evaluation(
    source: StoredClips,
    captions: Captions,
    encoding: Encoding,
    options: RetrievalOptions,
    first: VisualFeatures,
    missing: Mapping[str, str],
    tested: Sequence[Tested[_Ranked]],
    reader: Contextualizer | None,
) -> Evaluation:
    queries = _present(captions, first)
    ranked = {one.label: one.made.ranks for one in tested}
    numbers = RetrievalNumbers(queries, list(first.looks), ranked, options.multi_caption)
    models, seeds = model_facts(tested)
    results = Results(
        task=TASK,
        dataset_id=captions.dataset_id,
        dataset_sha256=captions.sha256,
        asked=_counts(captions.queries),
        evaluated=_counts(queries),
        missing=missing,
        protocol={
            **encoding.protocol.as_dict(),
            "captions_format": captions.format,
            "captions": dict(captions.choices),
            "paragraphs": captions.is_paragraph,
            "level": level_of(captions),
            "zero_shot": True,
            **reading_facts(reader),
            "ties": options.ties,
            "video_to_text_multi_caption": options.multi_caption,
            "scores": SCORES,
            "frames": source.reader.recipe.as_dict(),
            "frames_content_sha256": source.reader.content_sha256,
            "looks_sha256": first.sha256,
            "overlong_texts": tested[-1].made.overlong,
            "duplicate_texts": len(queries) - len({query.texts for query in queries}),
            "tied_queries": {m: {d: r.tied_queries for d, r in by.items()} for m, by in ranked.items()},
            "candidates": {direction: ranks.candidates for direction, ranks in ranked[BASE].items()},
            "bootstrap_draws": numbers.draws,
        },
        models=models,
        metrics=tuple(numbers.metrics()),
        seeds=seeds,
    )
    return Evaluation(results, numbers.samples)


def level_of(captions: Captions) -> str:
    """Return what a query is: ``video`` or ``event``."""
    return "video" if captions.queries[0].event_index is None else "event"


def _present(captions: Captions, found: VisualFeatures) -> list[Query]:
    there = set(found.looks)
    return [query for query in captions.queries if _item(query) in there]


def _item(query: Query) -> Item:
    return query.clip_id, query.event_index


def _counts(queries: Sequence[Query]) -> dict[str, int]:
    kind = "clips" if queries[0].event_index is None else "events"
    return {kind: len(set(map(_item, queries))), "texts": len(queries)}


def _rank(
    encoder: Encoder, found: VisualFeatures, texts: TextFeatures, queries: Sequence[Query], options: RetrievalOptions
) -> dict[str, Ranks]:
    column = {item: index for index, item in enumerate(found.looks)}
    own = np.array([column[_item(query)] for query in queries], dtype=np.int64)
    videos: Rows = TensorRows(found.all()) if _fits(len(found), found.width) else found
    words: Rows = QueryRows(texts, queries)
    if _fits(len(words), found.width):
        words = TensorRows(words.rows(0, len(words)))
    return streamed_ranks(
        words,
        videos,
        own,
        ties=options.ties,  # type: ignore[arg-type]
        multi_caption=options.multi_caption,  # type: ignore[arg-type]
        with_best=True,
        device=encoder.clip.device,
        reporter=encoder.encoding.reporter,
    )


def _fits(rows: int, width: int) -> bool:
    return rows * width * 4 <= _IN_MEMORY_BYTES


class QueryRows:
    """Features of queries; that of a query of several texts is their mean, of unit length again.

    Attributes:
        width: D.
    """

    def __init__(self, texts: TextFeatures, queries: Sequence[Query]) -> None:
        self.width = texts.width
        self._texts = texts
        counts = [len(query.texts) for query in queries]
        self._ends = np.cumsum([0, *counts])
        self._rows: npt.NDArray[np.int64] = texts.rows([text for query in queries for text in query.texts]).numpy()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def rows(self, start: int, stop: int) -> Tensor:
        """Return features ``start`` to ``stop``, (stop - start, D) float32."""
        return self.take(torch.arange(start, stop))

    def take(self, index: Tensor) -> Tensor:
        """Return the features at ``index`` (n,) int64, (n, D) float32."""
        places = index.cpu().numpy()
        begins, ends = self._ends[places], self._ends[places + 1]
        counts = ends - begins
        firsts = np.cumsum(counts) - counts
        flat = np.arange(counts.sum()) - np.repeat(firsts - begins, counts)
        features = self._texts.gather(torch.from_numpy(self._rows[flat]))
        if (counts == 1).all():
            return features
        sums = torch.zeros(len(index), self.width, dtype=torch.float64)
        sums.index_add_(0, torch.from_numpy(np.repeat(np.arange(len(index)), counts)), features.double())
        # The sum has the direction of the mean, and the length is divided out.
        return F.normalize(sums, dim=-1).float()


def _report_ties(encoder: Encoder, directions: Mapping[str, Ranks], rule: str) -> None:
    for direction, ranks in directions.items():
        if ranks.tied_queries:
            share = f"{ranks.tied_queries} of {len(ranks.values)} queries"
            said = f"ties: {encoder.said} {direction}: the right item of {share} ties with a wrong one ({rule})"
            encoder.encoding.reporter.info(said)
