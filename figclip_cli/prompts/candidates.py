"""What negatives are made of: other verbs with their own role names, and other values of the same role.

Everything is sorted before anything is drawn, so a draw depends on what was annotated, not on the order of files.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from figclip_cli.prompts.events import AnnotatedEvent, Annotation
from figclip_cli.prompts.lexicon import nouns_like, verbs_like
from figclip_cli.prompts.roles import GENERIC_NAMES, MODIFIERS, SCENE, lemma_of, propbank
from figclip_cli.prompts.templates import normalised

T = TypeVar("T")
_ARGS = (*GENERIC_NAMES, *MODIFIERS, SCENE)


class Sense(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A verb sense that may stand for another.

    Attributes:
        sense: For example ``walk.01``.
        verb: The word for it.
        word: The same in lower case.
        names: Name of each numbered role it defines.
    """

    sense: str
    verb: str
    word: str
    names: Mapping[str, str]


class Value(msgspec.Struct, frozen=True, gc=False):
    """What filled a role.

    Attributes:
        text: As annotated.
        only_clip: The clip it occurs in, or None where it occurs in several.
    """

    text: str
    only_clip: str | None


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is true of an event by any of its annotations: negatives must not say it.

    Attributes:
        verbs: Every verb given, and every verb that may be said of the same event, lower case.
        values: Every value, normalised.
        nouns: By role: heads of its values, and heads that may be said of the same thing.
    """

    verbs: frozenset[str]
    values: frozenset[str]
    nouns: Mapping[str, frozenset[str]]


def facts_of(twins: Iterable[AnnotatedEvent], more_verbs: Iterable[str] = ()) -> Facts:
    """Return what all annotations of one event say, and verbs that annotators gave it elsewhere."""
    verbs: frozenset[str] = frozenset().union(*(verbs_like(lemma_of(verb)) for verb in more_verbs))
    values: set[str] = set()
    nouns: dict[str, frozenset[str]] = {}
    for event in twins:
        verbs = verbs | verbs_like(event.verb) if verbs else verbs_like(event.verb)
        for argument in event.arguments:
            if argument.value:
                values.add(normalised(argument.value))
                like = nouns_like(argument.value)
                nouns[argument.arg] = nouns[argument.arg] | like if argument.arg in nouns else like
    return Facts(verbs, frozenset(values), nouns)


class Draws:
    """Random numbers from a name: SHA-256 of the name and a counter, eight numbers a block.

    Seeding Python's generator costs more than the five to ten numbers that an event's negatives need.
    """

    _NUMBERS = struct.Struct(">8I").unpack

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._block = 0
        self._left: list[int] = []

    def below(self, bound: int) -> int:
        """Return a whole number from 0 up to but without ``bound``, all as likely as 32 bits can make them."""
        if not self._left:
            digest = hashlib.sha256(b"%d\0%b" % (self._block, self._name)).digest()
            self._left = list(self._NUMBERS(digest))
            self._block += 1
        return self._left.pop() * bound >> 32


def facts_of_clip(clip: Sequence[Annotation], verbs: Mapping[tuple[str, int], frozenset[str]]) -> dict[int, Facts]:
    """Return the facts of each event of a clip by its index, given all annotations of the clip.

    Args:
        verbs: Verbs that annotators gave an event elsewhere, by clip id and event index.
    """
    twins: dict[int, list[AnnotatedEvent]] = defaultdict(list)
    for annotation in clip:
        for event in annotation.events:
            twins[event.index].append(event)
    return {index: facts_of(events, verbs.get((clip[0].clip_id, index), ())) for index, events in twins.items()}


def drawn(items: Sequence[T], random: Draws) -> Iterator[T]:
    """Yield the items in random order; the first few cost no more than a few draws (sparse Fisher-Yates)."""
    moved: dict[int, int] = {}
    for last in range(len(items) - 1, -1, -1):
        at = random.below(last + 1)
        yield items[moved.get(at, at)]
        moved[at] = moved.get(last, last)


class SenseCatalogue:
    """The senses that annotators used, then PropBank's."""

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        self._seen = _seen_senses(event for annotation in annotations for event in annotation.events)
        self.of = {sense.sense: sense for sense in self._seen}
        self._unseen = tuple(
            Sense(sense, lemma_of(sense), lemma_of(sense).lower(), names)
            for sense, names in sorted(propbank().items())
            if sense not in self.of
        )
        self._tiers: dict[frozenset[str], tuple[tuple[Sense, ...], ...]] = {}

    def tiers(self, args: frozenset[str]) -> tuple[tuple[Sense, ...], ...]:
        """Return senses from best to worst stand-in for an event that fills the numbered roles ``args``.

        First the annotated senses that define all of ``args``, then PropBank's; after them the annotated senses
        that define only some or none, then PropBank's.
        """
        if args not in self._tiers:
            split = [_split(senses, args) for senses in (self._seen, self._unseen)]
            self._tiers[args] = tuple(whole for whole, _ in split) + tuple(rest for _, rest in split)
        return self._tiers[args]


class ValuePool:
    """The values of every role."""

    _FREQUENT_DRAWS = 32

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        clips: dict[str, dict[str, list[str]]] = {arg: defaultdict(list) for arg in _ARGS}
        for annotation in annotations:
            for event in annotation.events:
                for argument in event.arguments:
                    if argument.value:
                        clips[argument.arg][argument.value].append(annotation.clip_id)
        self._distinct: dict[str, list[Value]] = {}
        self._occurrences: dict[str, list[Value]] = {}
        for arg, by_value in clips.items():
            self._distinct[arg] = [Value(text, _only(by_value[text])) for text in sorted(by_value)]
            self._occurrences[arg] = [value for value in self._distinct[arg] for _ in by_value[value.text]]

    def draw(self, arg: str, random: Draws) -> Iterator[Value]:
        """Yield values of a role, some of them repeatedly, until every value has come.

        The first draws weigh a value by how often it was annotated, so that negatives have the nouns of positives.
        """
        yield from islice(drawn(self._occurrences[arg], random), self._FREQUENT_DRAWS)
        yield from drawn(self._distinct[arg], random)


def _only(clips: Sequence[str]) -> str | None:
    """Return the one clip that all of ``clips`` are, else None."""
    return clips[0] if len(set(clips)) == 1 else None


def _seen_senses(events: Iterable[AnnotatedEvent]) -> tuple[Sense, ...]:
    verbs: dict[str, str] = {}
    names: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for event in events:
        verbs[event.sense] = event.verb
        for argument in event.arguments:
            if argument.description:
                names[event.sense][argument.arg][argument.description] += 1
    return tuple(
        Sense(
            sense,
            verbs[sense],
            verbs[sense].lower(),
            {**propbank().get(sense, {}), **{arg: _most_frequent(found) for arg, found in names[sense].items()}},
        )
        for sense in sorted(verbs)
    )


def _most_frequent(counts: Counter[str]) -> str:
    """Return the most frequent key, the alphabetically first among equals."""
    return min(counts, key=lambda key: (-counts[key], key))


def _split(senses: Sequence[Sense], args: frozenset[str]) -> tuple[tuple[Sense, ...], tuple[Sense, ...]]:
    whole = tuple(sense for sense in senses if args <= sense.names.keys())
    return whole, tuple(sense for sense in senses if not args <= sense.names.keys())
