"""Numbers of retrieval in both directions, and what each model made of each query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.datasets.captions import Query
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.metrics.ranking import RECALL_AT, Ranks, hits
from figclip_cli.evaluate.metrics.statistics import PERCENT, GeometricMean, Mean, Median, Statistic
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample

Item = tuple[str, int | None]

_RECALLS = tuple(Mean(PERCENT, key=f"R@{k}") for k in RECALL_AT)
STATISTICS: Mapping[str, tuple[Statistic, bool]] = {
    **{recall.key: (recall, True) for recall in _RECALLS},
    "MdR": (Median(offset=1.0, key="rank"), False),
    "MnR": (Mean(offset=1.0, key="rank"), False),
    "gmean": (GeometricMean(_RECALLS), True),
}
METRIC_NAMES = tuple(f"{direction} {name}" for direction in ("t2v", "v2t") for name in STATISTICS)


class RetrievalNumbers:
    """Ranks of every model, and the numbers made of them.

    Args:
        queries: The texts, in order of their ranks.
        items: The clips or events, in order of theirs.
        ranked: By model, the ranks of ``t2v`` and ``v2t``.
        multi_caption: The definition of ``v2t``.
    """

    def __init__(
        self,
        queries: Sequence[Query],
        items: Sequence[Item],
        ranked: Mapping[str, Mapping[str, Ranks]],
        multi_caption: str,
    ) -> None:
        self._queries = queries
        self._items = items
        self._ranked = ranked
        self._multi_caption = multi_caption
        # Captions of one clip, and events of one clip, are not independent.
        self._resampling = {
            "t2v": Resampling([query.clip_id for query in queries], seed=BOOTSTRAP_SEED),
            "v2t": Resampling([clip_id for clip_id, _ in items], seed=BOOTSTRAP_SEED),
        }

    @property
    def draws(self) -> dict[str, int]:
        """Bootstrap draws made in each direction."""
        return {direction: resampling.draws for direction, resampling in self._resampling.items()}

    def metrics(self) -> Iterator[Metric]:
        """Yield recalls, median and mean rank, and the geometric mean of the recalls, in both directions."""
        for direction, resampling in self._resampling.items():
            values = {model: values_of(by_direction[direction].values) for model, by_direction in self._ranked.items()}
            for name, (statistic, higher) in STATISTICS.items():
                yield measure(f"{direction} {name}", statistic, values, resampling, higher_is_better=higher)

    def samples(self) -> Iterator[Sample]:
        """Yield each text as a query, then each clip, with what every model put first."""
        names = [_shown(item) for item in self._items]
        texts = [" / ".join(query.texts) for query in self._queries]
        column = {item: index for index, item in enumerate(self._items)}
        first_text: dict[Item, str] = {}
        seen: Counter[Item] = Counter()
        for row, query in enumerate(self._queries):
            item = query.clip_id, query.event_index
            first_text.setdefault(item, texts[row])
            name = names[column[item]]
            outcomes = self._outcomes("t2v", row, name, names)
            yield Sample(id=f"{name}/{seen[item]}", part="t2v", look=name, text=texts[row], outcomes=outcomes)
            seen[item] += 1
        # Under max-per-video it is clips that are ranked, each by its best text.
        by_text = self._multi_caption == "min-rank"
        for row, item in enumerate(self._items):
            own, candidates = (first_text[item], texts) if by_text else (names[row], names)
            outcomes = self._outcomes("v2t", row, own, candidates)
            yield Sample(id=names[row], part="v2t", look=names[row], text=first_text[item], outcomes=outcomes)

    def _outcomes(self, direction: str, row: int, own: str, candidates: Sequence[str]) -> dict[str, Outcome]:
        return {
            model: _outcome(by_direction[direction], row, own, candidates)
            for model, by_direction in self._ranked.items()
        }


def values_of(ranks: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what :data:`STATISTICS` are of: the 0-based rank of each query, and whether it is a hit at each k."""
    return {"rank": ranks, **{f"R@{k}": hits(ranks, k).astype(np.float64) for k in RECALL_AT}}


def _shown(item: Item) -> str:
    clip_id, event = item
    return clip_id if event is None else f"{clip_id}#{event}"


def _outcome(ranks: Ranks, row: int, own: str, candidates: Sequence[str]) -> Outcome:
    assert ranks.best_wrong is not None and ranks.own_scores is not None and ranks.best_wrong_scores is not None
    rank, best = float(ranks.values[row]), int(ranks.best_wrong[row])
    if best < 0:  # nothing to confuse it with
        return Outcome(right=True, margin=0.0, rank=rank, chosen=own)
    margin = float(ranks.own_scores[row]) - float(ranks.best_wrong_scores[row])
    right = rank == 0  # by the rule of ties
    return Outcome(right=right, margin=margin, rank=rank, chosen=own if right else candidates[best])
