"""What the page of situations shows, as plain texts: annotators' words, predictions, and why a clip is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PageRole:
    """One role of an event as annotators have it.

    Attributes:
        key: What predictions call it, such as ``Arg0`` or ``AScn``.
        title: What it is, such as ``pusher``; may be empty.
        phrases: What each annotator wrote.
        scored: Whether the task asks for it. Else it is shown, judged only where it is predicted, and never counted.
    """

    key: str
    title: str
    phrases: tuple[str, ...]
    scored: bool = True


@dataclass(frozen=True)
class PageEvent:
    """One event as annotators have it.

    Attributes:
        verbs: The verb sense that each annotator named, so the same one may be there several times.
        roles: In the order in which they are shown.
        relations: How each annotator relates it to the third event; empty for the third.
    """

    verbs: tuple[str, ...]
    roles: tuple[PageRole, ...] = ()
    relations: tuple[str, ...] = ()


@dataclass(frozen=True)
class PageClip:
    """One clip as annotators have it; its events are equal parts of it."""

    clip_id: str
    events: tuple[PageEvent, ...]


@dataclass(frozen=True)
class PagePrediction:
    """What one model says of one event; None is what it was not asked, or the file does not hold.

    Attributes:
        verbs: Senses, the likeliest first.
        phrases: By role key.
        cider: Of the phrases, by role key, 0 to 10; only where it is known.
        relation: How it relates to the third event.
    """

    verbs: tuple[str, ...] | None = None
    phrases: Mapping[str, str] | None = None
    cider: Mapping[str, float] = field(default_factory=dict)
    relation: str | None = None


@dataclass(frozen=True)
class ChosenClip:
    """A clip to show, and why, in a few words."""

    clip_id: str
    why: str = ""


ClipPredictions = Mapping[str, Sequence[PagePrediction]]
