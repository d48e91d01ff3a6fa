"""What negatives are made of: other verbs with their own role names, and other nouns of the same role.

Everything is sorted before anything is drawn, so a draw depends on what was annotated, not on the order of files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TypeVar

from figclip_cli.prompts.annotations import AnnotatedEvent, Annotation
from figclip_cli.prompts.roles import GENERIC_NAMES, lemma_of, propbank

T = TypeVar("T")


@dataclass(frozen=True)
class Sense:
    """A verb sense that may stand for another.

    Attributes:
        sense: For example ``walk.01``.
        verb: The word for it.
        names: Name of each numbered role it defines.
    """

    sense: str
    verb: str
    names: Mapping[str, str]

    @cached_property
    def words(self) -> frozenset[str]:
        """Every form under which an annotator may have meant this verb, lower case."""
        return verb_words(self.verb, self.sense)


@dataclass(frozen=True)
class Noun:
    """A value of a numbered role.

    Attributes:
        value: As annotated.
        only_clip: The clip it occurs in, or None where it occurs in several.
    """

    value: str
    only_clip: str | None


def verb_words(verb: str, sense: str) -> frozenset[str]:
    """Return the verb as written and the lemma of its sense, lower case."""
    return frozenset({verb.lower(), lemma_of(sense).lower()})


def drawn(items: Sequence[T], random: Random) -> Iterator[T]:
    """Yield the items in random order; the first few cost no more than a few draws (sparse Fisher-Yates)."""
    moved: dict[int, int] = {}
    for last in range(len(items) - 1, -1, -1):
        at = random.randrange(last + 1)
        yield items[moved.get(at, at)]
        moved[at] = moved.get(last, last)


class SenseCatalogue:
    """The senses that annotators used, then PropBank's."""

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        events = [event for annotation in annotations for event in annotation.events]
        self._seen = _seen_senses(events)
        used = {sense.sense for sense in self._seen}
        self._unseen = tuple(
            Sense(sense, lemma_of(sense), names) for sense, names in sorted(propbank().items()) if sense not in used
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


class NounPool:
    """The values of every numbered role."""

    _FREQUENT_DRAWS = 32

    def __init__(self, annotations: Iterable[Annotation]) -> None:
        clips: dict[str, dict[str, list[str]]] = {arg: defaultdict(list) for arg in GENERIC_NAMES}
        for annotation in annotations:
            for argument in (argument for event in annotation.events for argument in event.arguments):
                if argument.arg in clips and argument.value:
                    clips[argument.arg][argument.value].append(annotation.clip_id)
        self._distinct: dict[str, list[Noun]] = {}
        self._occurrences: dict[str, list[Noun]] = {}
        for arg, by_value in clips.items():
            self._distinct[arg] = [Noun(value, _only(by_value[value])) for value in sorted(by_value)]
            self._occurrences[arg] = [noun for noun in self._distinct[arg] for _ in by_value[noun.value]]

    def draw(self, arg: str, random: Random) -> Iterator[Noun]:
        """Yield values of a role, some of them repeatedly, until every value has come.

        The first draws weigh a value by how often it was annotated, so that negatives have the nouns of positives.
        """
        for noun, _ in zip(drawn(self._occurrences[arg], random), range(self._FREQUENT_DRAWS), strict=False):
            yield noun
        yield from drawn(self._distinct[arg], random)


def _only(clips: Sequence[str]) -> str | None:
    """Return the one clip that all of ``clips`` are, else None."""
    return clips[0] if len(set(clips)) == 1 else None


def _seen_senses(events: Iterable[AnnotatedEvent]) -> tuple[Sense, ...]:
    verbs: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for event in events:
        verbs[event.sense][event.verb] += 1
        for argument in event.arguments:
            if argument.description:
                names[event.sense][argument.arg][argument.description] += 1
    return tuple(
        Sense(
            sense,
            _most_frequent(verbs[sense]),
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
