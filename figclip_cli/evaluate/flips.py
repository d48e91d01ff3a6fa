"""Items by which of two models has them right, and the items that flipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from figclip_cli.evaluate.metrics.ranking import hits
from figclip_cli.evaluate.metrics.statistics import Mean
from figclip_cli.evaluate.metrics.uncertainty import Resampling, paired_test
from figclip_cli.evaluate.samples import Outcome, Sample
from figclip_cli.files import replacing

Pair = tuple[Sample, Outcome, Outcome]  # an item, what A made of it, and what B did


@dataclass(frozen=True)
class Count:
    """Items by which of the two models has them right.

    Attributes:
        name: The part or group; empty for all.
        both_right, only_a, only_b, both_wrong: Numbers of items.
        p_value: Of the paired test of the difference, which swaps all items of a clip or image at once.
        test: Its name.
    """

    name: str
    both_right: int = 0
    only_a: int = 0
    only_b: int = 0
    both_wrong: int = 0
    p_value: float | None = None
    test: str | None = None

    @property
    def n(self) -> int:
        """Items in all."""
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def accuracy_a(self) -> float:
        """Percent that A has right."""
        return 100.0 * (self.both_right + self.only_a) / self.n

    @property
    def accuracy_b(self) -> float:
        """Percent that B has right."""
        return 100.0 * (self.both_right + self.only_b) / self.n

    @property
    def delta(self) -> float:
        """B's accuracy minus A's, in points."""
        return 100.0 * (self.only_b - self.only_a) / self.n

    def as_dict(self) -> dict[str, Any]:
        """Return counts, accuracies, difference and p-value, for JSON."""
        derived = ("n", "accuracy_a", "accuracy_b", "delta")
        return {**vars(self), **{name: getattr(self, name) for name in derived}}


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An item that one of the two models has right and the other wrong.

    Attributes:
        flip: ``won`` where B has it right, ``lost`` where A has.
        id, part, group, look, text: As in the samples, A's where the files differ.
        chosen_a, chosen_b: What each model put first.
        margin_a, margin_b: Score of the right answer minus the best wrong one.
        rank_a, rank_b: Rank of the right answer, from 0, where there are ranks.
    """

    flip: Literal["won", "lost"]
    id: str
    part: str
    group: str
    look: str
    text: str
    chosen_a: str
    chosen_b: str
    margin_a: float
    margin_b: float
    rank_a: float | None
    rank_b: float | None

    @property
    def change(self) -> float:
        """How much the margin grew from A to B."""
        return self.margin_b - self.margin_a


def is_right(outcome: Outcome, at: int | None) -> bool:
    """Return whether an outcome counts; a hit at 1 needs rank 0 exactly, as in the retrieval metrics."""
    if at is None or outcome.rank is None:
        return outcome.right
    return bool(hits(np.float64(outcome.rank), at))


def count_by(pairs: Iterable[Pair], name_of: Callable[[Sample], str], at: int | None = None) -> list[Count]:
    """Count pairs by a name of their sample, in order of name; ``at`` as for :func:`is_right`."""
    by_name: dict[str, list[tuple[str, bool, bool]]] = {}
    for sample, first, second in pairs:
        item = sample.look, is_right(first, at), is_right(second, at)
        by_name.setdefault(name_of(sample), []).append(item)
    return [_count(name, by_name[name]) for name in sorted(by_name)]


def _count(name: str, items: Sequence[tuple[str, bool, bool]]) -> Count:
    looks, first, second = zip(*items, strict=True)
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    p_value, test = paired_test(Mean(), a, b, Resampling(looks))
    both, only_a, only_b = int((a * b).sum()), int((a > b).sum()), int((b > a).sum())
    return Count(name, both, only_a, only_b, len(items) - both - only_a - only_b, p_value, test)


def find_flips(pairs: Iterable[Pair], at: int | None = None) -> tuple[tuple[Flip, ...], tuple[Flip, ...]]:
    """Return what B won and what it lost, the largest change of margin first."""
    flips: dict[str, list[Flip]] = {"won": [], "lost": []}
    for sample, first, second in pairs:
        right_a, right_b = is_right(first, at), is_right(second, at)
        if right_a != right_b:
            kind: Literal["won", "lost"] = "won" if right_b else "lost"
            flips[kind].append(_flip(kind, sample, first, second))
    won = sorted(flips["won"], key=lambda flip: (-flip.change, flip.part, flip.id))
    lost = sorted(flips["lost"], key=lambda flip: (flip.change, flip.part, flip.id))
    return tuple(won), tuple(lost)


def _flip(kind: Literal["won", "lost"], sample: Sample, first: Outcome, second: Outcome) -> Flip:
    return Flip(
        flip=kind,
        id=sample.id,
        part=sample.part,
        group=sample.group,
        look=sample.look,
        text=sample.text,
        chosen_a=first.chosen,
        chosen_b=second.chosen,
        margin_a=first.margin,
        margin_b=second.margin,
        rank_a=first.rank,
        rank_b=second.rank,
    )


def write_flips(path: Path, flips: Iterable[Flip]) -> None:
    """Write flips as JSONL, keys sorted; whole or not at all."""
    encoder = msgspec.json.Encoder(order="sorted")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(encoder.encode(flip) + b"\n" for flip in flips)
