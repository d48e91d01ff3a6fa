"""What annotation says, whatever file it came in: clips, their annotations, events and filled roles."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class Argument(msgspec.Struct, frozen=True, gc=False):
    """One role as annotated.

    Attributes:
        arg: See :class:`~figclip_cli.prompts.roles.Role`.
        description: The annotator's name of a numbered role, or empty.
        value: Cleaned; empty where the annotator left it so.
    """

    arg: str
    description: str
    value: str


class AnnotatedEvent(msgspec.Struct, gc=False):
    """One event.

    Attributes:
        index: Which event of the clip, from 0.
        verb: The verb in words, ``light up``.
        sense: Its sense, ``light_up.05``; the verb with underscores where the file names no sense.
        arguments: In the annotator's order.
        start_seconds: Where the event begins, from the clip's start; None where the file does not say.
        end_seconds: Where it ends.
    """

    index: int
    verb: str
    sense: str
    arguments: tuple[Argument, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """One annotator's view of a clip: its events by rising index; ``annotation_index`` counts from 0 in file order."""

    clip_id: str
    annotation_index: int
    events: tuple[AnnotatedEvent, ...]


@dataclass(frozen=True)
class AnnotationFiles:
    """What was read.

    Attributes:
        sources: ``{"name": file name, "sha256": ..., "format": ...}`` of each file, in the order they were read.
        annotations: Sorted by clip id and annotation index.
        problems: One line for each record that was left out.
        records: Records in all files, the ones left out included.
        unlabelled: Records without labels (VidSitu's test files), which are left out too.
    """

    sources: tuple[dict[str, str], ...]
    annotations: tuple[Annotation, ...]
    problems: tuple[str, ...] = ()
    records: int = 0
    unlabelled: int = 0


@dataclass
class Found:
    """What one record holds.

    Attributes:
        clip_id: The clip.
        events: Its events in this record.
        annotation: Which annotation of the clip they belong to; None for one that is complete with this record.
    """

    clip_id: str
    events: list[AnnotatedEvent] = field(default_factory=list)
    annotation: int | None = None


class Problem(Exception):
    """A record breaks its format; the message names the key."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unlabelled(Exception):
    """A record has no labels, as in VidSitu's test files."""
