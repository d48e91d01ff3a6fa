"""Which clips the page of situations shows: those that one model gained or lost most on, or the best and worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.situation_page.inputs import ChosenClip

Scores = Mapping[str, float]
_LONGEST_HINT = 200


def most_changed(
    before: Scores, after: Scores, count: int, *, names: tuple[str, str] = ("base", "adapted")
) -> list[ChosenClip]:
    """Return the clips whose score rose most, then those whose score fell most, up to ``count`` of each.

    A clip of equal scores is in neither part; of equal changes, the first id comes first.

    Args:
        before: Score by clip id of one model; higher is better.
        after: Of another, for the same clips.
        count: At least 1.
        names: Of the models, for the reason that is shown.

    Raises:
        UsageError: ``count`` is below 1.
        InputError: The clips differ, or a score is not finite.
    """
    _require_count(count)
    if before.keys() != after.keys():
        odd = min(before.keys() ^ after.keys())
        raise InputError(f"clip '{odd}' has a score of one model only", "both must predict the same clips")
    _require_finite(before)
    _require_finite(after)
    change = {clip: after[clip] - before[clip] for clip in sorted(before)}
    rose = sorted((clip for clip in change if change[clip] > 0), key=lambda clip: -change[clip])[:count]
    fell = sorted((clip for clip in change if change[clip] < 0), key=lambda clip: change[clip])[:count]

    def chosen(clip: str, what: str) -> ChosenClip:
        scores = f"{names[0]} {before[clip]:.3f}, {names[1]} {after[clip]:.3f}"
        return ChosenClip(clip, f"{what}: {scores} ({change[clip]:+.3f})")

    return [chosen(clip, "gained most") for clip in rose] + [chosen(clip, "lost most") for clip in fell]


def best_and_worst(scores: Scores, count: int) -> list[ChosenClip]:
    """Return the ``count`` clips of the highest scores, then those of the lowest, the worst first; none twice.

    Of equal scores, the first id comes first.

    Raises:
        UsageError: ``count`` is below 1.
        InputError: A score is not finite.
    """
    _require_count(count)
    _require_finite(scores)
    best = sorted(scores, key=lambda clip: (-scores[clip], clip))[:count]
    worst = [clip for clip in sorted(scores, key=lambda clip: (scores[clip], clip)) if clip not in set(best)][:count]
    return [ChosenClip(clip, f"among the best: {scores[clip]:.3f}") for clip in best] + [
        ChosenClip(clip, f"among the worst: {scores[clip]:.3f}") for clip in worst
    ]


def nearest_clip(name: str, known: Iterable[str]) -> str:
    """Return a hint for a clip that there is not: the nearest one, and never a list of thousands."""
    hint = nearest(name, known)
    return hint if len(hint) <= _LONGEST_HINT else "see the list of clips of the split"


def _require_count(count: int) -> None:
    if count < 1:
        raise UsageError(f"a page cannot show {count} clips", "ask for at least 1")


def _require_finite(scores: Scores) -> None:
    bad = next((clip for clip in sorted(scores) if not math.isfinite(scores[clip])), None)
    if bad is not None:
        raise InputError(f"clip '{bad}' has a score that is no finite number", "evaluate again")
