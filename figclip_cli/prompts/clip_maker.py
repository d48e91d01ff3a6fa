"""The lines of one clip after the other, by this process or by several."""

from __future__ import annotations

import hashlib
import heapq
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from figclip_cli.errors import InputError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.balance import Exchange
from figclip_cli.prompts.candidates import SenseCatalogue, ValuePool, facts_of_clip
from figclip_cli.prompts.events import AnnotatedEvent, Annotation, Problem
from figclip_cli.prompts.joined import JoinedText, join
from figclip_cli.prompts.kinds import Positive
from figclip_cli.prompts.negatives import NegativeMaker
from figclip_cli.prompts.options import PromptOptions
from figclip_cli.prompts.overflow import Fitted, Place, fit
from figclip_cli.prompts.roles import GENERIC_NAMES, Role, labels_of, role_name
from figclip_cli.prompts.store import PromptEvent, encoded
from figclip_cli.prompts.tally import Tally
from figclip_cli.prompts.templates import Pieces, Template

_CLIPS_PER_TASK = 20  # few enough that what is made of them stays in the processor's cache


@dataclass
class Made:
    """What came of some clips, in order; small, because it may come from another process.

    Attributes:
        annotations: How many were made.
        lines: Their events as lines of prompts.jsonl.
        samples: The events with the smallest hashes, which are the same in whatever order clips are made.
    """

    tally: Tally
    annotations: int = 0
    lines: bytes = b""
    samples: list[tuple[bytes, PromptEvent]] = field(default_factory=list)
    joined: list[JoinedText] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class ClipMaker:
    """Makes prompts and negatives of clips; holds all that this needs, so that any process can do any clip.

    Args:
        annotations: Of all clips: what verbs and values are taken from.
        verbs: Verbs that annotators gave an event elsewhere, by clip id and event index.
        template: Makes the texts.
        strict: Make an event whose prompt cannot be shortened an error, instead of leaving it out.
        joining: Also make the joined texts.
        samples: Events to keep for a person to look at.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        verbs: Mapping[tuple[str, int], frozenset[str]],
        template: Template,
        options: PromptOptions,
        *,
        strict: bool,
        joining: bool,
        samples: int = 0,
    ) -> None:
        self.counter = TokenCounter()
        self._verbs = verbs
        self._template = template
        self._options = options
        self._requests = options.per_event
        self._strict = strict
        self._joining = joining
        self._samples = samples
        self._events: list[PromptEvent] = []
        self._made = self._nothing()
        senses = SenseCatalogue(annotations)
        balanced = Exchange(annotations, verbs, senses, self._requests, options.seed) if options.balance else None
        self._maker = NegativeMaker(
            senses,
            ValuePool(annotations),
            template=template,
            meaning=self._meaning_of_negative,
            seed=options.seed,
            exchange=balanced,
        )

    def make(self, clips: Sequence[Sequence[Annotation]]) -> Made:
        """Return the lines of clips, each given with all its annotations.

        Raises:
            InputError: A prompt is over the context and the rule is ``error``, or cannot be shortened and the maker
                is strict.
        """
        made = self._made = self._nothing()
        self._events = []
        for clip in clips:
            made.annotations += len(clip)
            self._clip(clip)
        made.tally.add(self._events)
        made.lines = encoded(self._events)
        if self._samples:
            hashed = [(_hash(self._options.seed, event), event) for event in self._events]
            made.samples = heapq.nsmallest(self._samples, hashed, key=lambda item: item[0])
        return made

    def _nothing(self) -> Made:
        return Made(Tally(self._options.on_overflow, self._requests))

    def _clip(self, clip: Sequence[Annotation]) -> None:
        rows = [self._fit_all(annotation) for annotation in clip]
        said = {place: self._meaning(prompt.pieces) for row in rows for place, prompt in row.items()}
        facts = facts_of_clip(clip, self._verbs)
        for annotation, row in zip(clip, rows, strict=True):
            for event in annotation.events:
                place = _place(annotation, event)
                if place in row:
                    positive = Positive(
                        place=place,
                        verb=event.verb,
                        sense=event.sense,
                        roles=row[place].roles,
                        pieces=row[place].pieces,
                        facts=facts[event.index],
                        said=said,
                        prompts=row,
                        labels=tuple(labels_of(row[place].roles)),
                        numbered=tuple([n for n, role in enumerate(row[place].roles) if role.arg in GENERIC_NAMES]),
                    )
                    self._add(positive, row[place], event)
            if self._joining and row:
                self._join(annotation, row)

    def _fit_all(self, annotation: Annotation) -> dict[Place, Fitted]:
        """Return the prompt of each event; one that no rule can shorten is left out and reported."""
        row = {}
        for event in annotation.events:
            try:
                row[_place(annotation, event)] = self._fit(annotation, event)
            except Problem as problem:
                self._leave_out(problem)
        return row

    def _fit(self, annotation: Annotation, event: AnnotatedEvent) -> Fitted:
        roles = []
        for argument in event.arguments:
            if argument.value:
                name, generic = role_name(event.sense, argument.arg, argument.description)
                if generic:
                    self._made.tally.generic[argument.arg] += 1
                roles.append(Role(argument.arg, name, argument.value))
        return fit(
            event.verb,
            roles,
            template=self._template,
            counter=self.counter,
            on_overflow=self._options.on_overflow,
            where=_place(annotation, event),
        )

    def _add(self, positive: Positive, prompt: Fitted, event: AnnotatedEvent) -> None:
        made = PromptEvent(
            annotation_index=positive.place[1],
            clip_id=positive.place[0],
            end_seconds=event.end_seconds,
            event_index=event.index,
            lost_roles=prompt.lost,
            negatives=self._maker.make(positive, self._requests),
            roles=prompt.roles,
            start_seconds=event.start_seconds,
            text=" ".join(prompt.pieces),
            verb=event.verb,
            verb_sense=event.sense,
        )
        self._made.tally.add_prompt(prompt)
        self._events.append(made)

    def _join(self, annotation: Annotation, row: Mapping[Place, Fitted]) -> None:
        events = [
            (event.index, event.verb, row[_place(annotation, event)].roles)
            for event in annotation.events
            if _place(annotation, event) in row
        ]
        try:
            text = join(
                annotation.clip_id,
                annotation.annotation_index,
                events,
                template=self._template,
                counter=self.counter,
                temporal=self._options.temporal,
                seed=self._options.seed,
            )
        except Problem as problem:
            self._leave_out(problem)
        else:
            self._made.joined.append(text)

    def _leave_out(self, problem: Problem) -> None:
        """Report what cannot be done; under ``strict``, stop."""
        if self._strict:
            raise InputError(str(problem), problem.hint) from problem
        self._made.problems.append(str(problem))

    def _fits(self, pieces: Pieces) -> bool:
        return self.counter.count_pieces(pieces) <= self.counter.context_length

    def _meaning(self, pieces: Pieces) -> str:
        """Return what the model sees of a text, normalised."""
        if self._fits(pieces):
            return self._template.meaning(pieces)
        return self._template.meaning([self.counter.visible(" ".join(pieces))])

    def _meaning_of_negative(self, pieces: Pieces) -> str | None:
        """Return the same, or None for a text over the context unless texts are to be truncated."""
        if self._fits(pieces):
            return self._template.meaning(pieces)
        overflow = self._made.tally.overflow
        if self._options.on_overflow != "truncate":
            overflow["negatives_refused"] += 1
            return None
        overflow["negatives_truncated"] += 1
        return self._meaning(pieces)


def _hash(seed: int, event: PromptEvent) -> bytes:
    return hashlib.sha256(f"{seed}/sample/{event.key}".encode()).digest()


def _place(annotation: Annotation, event: AnnotatedEvent) -> Place:
    return annotation.clip_id, annotation.annotation_index, event.index


_maker_of_process: ClipMaker | None = None


def made_in_order(maker: ClipMaker, clips: Sequence[Sequence[Annotation]], *, workers: int) -> Iterator[Made]:
    """Yield what is made of clips, some at a time and in order, whatever the number of processes.

    Processes are forked: each has the maker at once. Where a system cannot fork, one process does all.
    """
    tasks = [clips[start : start + _CLIPS_PER_TASK] for start in range(0, len(clips), _CLIPS_PER_TASK)]
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(maker.make, tasks)
        return
    global _maker_of_process
    _maker_of_process = maker
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(_make_in_process, tasks)


def _make_in_process(clips: Sequence[Sequence[Annotation]]) -> Made:
    assert _maker_of_process is not None
    return _maker_of_process.make(clips)
