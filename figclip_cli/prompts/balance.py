"""Verbs and values exchanged between events, so that negatives have exactly those that prompts have.

If negatives prefer some verbs, a model learns from the text alone which text is the negative. Here each round of
negatives gives every event the verb (or the value of one role) of another event, all of them once: a random
permutation, whose places where the result would be true are mended by further exchanges.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from random import Random
from typing import TypeVar

import msgspec

from figclip_cli.prompts import kinds
from figclip_cli.prompts.candidates import Facts, Sense, SenseCatalogue, facts_of_clip
from figclip_cli.prompts.events import Annotation
from figclip_cli.prompts.kinds import Candidate, Positive
from figclip_cli.prompts.overflow import Place
from figclip_cli.prompts.roles import GENERIC_NAMES, Role, labels_of, role_name
from figclip_cli.prompts.templates import normalised

T = TypeVar("T")
_MENDING_TRIES = 300


class _Event(msgspec.Struct, frozen=True, gc=False):
    """An event as the exchange sees it.

    Attributes:
        signature: The numbered roles it fills: events of one signature have verbs that suit each other's roles.
        filled: Label and value of each filled role, as a ``change`` labels them.
    """

    place: Place
    sense: str
    facts: Facts
    signature: frozenset[str]
    filled: tuple[tuple[str, str], ...]
    swaps: int


class Exchange:
    """Decides which verb and which values the negatives of each event get.

    Args:
        annotations: Of all clips.
        verbs: Verbs that annotators gave an event elsewhere, by clip id and event index.
        requests: Numbers of negatives by kind.
        seed: Decides the exchange.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        verbs: Mapping[tuple[str, int], frozenset[str]],
        senses: SenseCatalogue,
        requests: Mapping[str, int],
        seed: int,
    ) -> None:
        self._senses: dict[Place, list[Sense]] = defaultdict(list)
        self._values: dict[tuple[str, Place], list[tuple[str, str]]] = defaultdict(list)
        self._seed = seed
        self._requests = requests
        events = list(_events(annotations, verbs))
        for number in range(requests.get(kinds.VERB_ROLE, 0)):
            self._verb_round(events, senses, f"{kinds.VERB_ROLE}/{number}")
        self._noun_rounds(events)
        for kind, arg in kinds.REPLACED_ARG.items():
            filled = [(event, *pair) for event in events for pair in event.filled if pair[0] == arg]
            for number in range(requests.get(kind, 0)):
                self._value_round(kind, filled, number)

    def decides(self, kind: str) -> bool:
        """Return whether the negatives of a kind are to be taken from here."""
        return kind in (kinds.VERB_ROLE, kinds.ROLE_NOUN_REPLACE, *kinds.REPLACED_ARG)

    def candidates(self, kind: str, positive: Positive) -> Iterator[Candidate]:
        """Yield what was decided for an event, as far as its prompt kept the roles."""
        if kind == kinds.VERB_ROLE:
            for sense in self._senses.get(positive.place, ()):
                yield kinds.with_verb(positive, sense)
            return
        for label, value in self._values.get((kind, positive.place), ()):
            if label in positive.labels:
                yield kinds.with_values(positive, {positive.labels.index(label): value}, kind)

    def _verb_round(self, events: Sequence[_Event], senses: SenseCatalogue, name: str) -> None:
        """Give every event another event's verb: of one with the same numbered roles, else of any."""
        groups: dict[frozenset[str], list[_Event]] = defaultdict(list)
        for event in events:
            groups[event.signature].append(event)
        rest: list[_Event] = []
        spare: list[Sense] = []
        for signature in sorted(groups, key=sorted):
            offered = [senses.of[event.sense] for event in groups[signature]]
            lacking, left = self._give_verbs(groups[signature], offered, f"{name}/{' '.join(sorted(signature))}")
            rest += lacking
            spare += left
        self._give_verbs(rest, spare, f"{name}/rest")

    def _give_verbs(
        self, events: Sequence[_Event], offered: Sequence[Sense], name: str
    ) -> tuple[list[_Event], list[Sense]]:
        """Give out verbs; return the events that got none and the verbs that nobody got."""
        given, spare = exchanged(offered, lambda i, sense: self._verb_suits(events[i], sense), self._random(name))
        lacking = []
        for event, sense in zip(events, given, strict=True):
            if sense is None:
                lacking.append(event)
            else:
                self._senses[event.place].append(sense)
        return lacking, spare

    def _verb_suits(self, event: _Event, sense: Sense) -> bool:
        taken = self._senses.get(event.place, ())
        return sense.word not in event.facts.verbs and all(sense.word != other.word for other in taken)

    def _noun_rounds(self, events: Sequence[_Event]) -> None:
        """Plan as many replaced nouns per event as its swaps leave to be made."""
        both, alone = self._requests.get(kinds.ROLE_NOUN, 0), self._requests.get(kinds.ROLE_NOUN_REPLACE, 0)
        wanted = {event.place: alone + (max(0, both - event.swaps) if both else 0) for event in events}
        for number in range(max(wanted.values(), default=0)):
            filled = []
            for event in events:
                nouns = [pair for pair in event.filled if _arg_of(pair[0]) in GENERIC_NAMES]
                if nouns and wanted[event.place] > number:
                    first = self._random("/".join(map(str, event.place))).randrange(len(nouns))
                    filled.append((event, *nouns[(first + number) % len(nouns)]))
            self._value_round(kinds.ROLE_NOUN_REPLACE, filled, number)

    def _value_round(self, kind: str, filled: Iterable[tuple[_Event, str, str]], number: int) -> None:
        """Give each of the roles the value of the same role in another event."""
        groups: dict[str, list[tuple[_Event, str, str]]] = defaultdict(list)
        for item in filled:
            groups[_arg_of(item[1])].append(item)
        for arg in sorted(groups):
            self._give_values(kind, arg, groups[arg], f"{kind}/{number}/{arg}")

    def _give_values(self, kind: str, arg: str, group: Sequence[tuple[_Event, str, str]], name: str) -> None:
        def suits(i: int, offer: tuple[str, str]) -> bool:
            event, label, _ = group[i]
            clip_id, value = offer
            taken = self._values.get((kind, event.place), ())
            is_new = all(label != other or normalised(value) != normalised(given) for other, given in taken)
            return clip_id != event.place[0] and is_new and kinds.is_false(value, arg, event.facts)

        offered = [(event.place[0], value) for event, _, value in group]
        given, _ = exchanged(offered, suits, self._random(name))
        for (event, label, _), offer in zip(group, given, strict=True):
            if offer is not None:
                self._values[kind, event.place].append((label, offer[1]))

    def _random(self, name: str) -> Random:
        digest = hashlib.sha256(f"{self._seed}/balance/{name}".encode()).digest()
        return Random(int.from_bytes(digest[:16], "big"))


def _arg_of(label: str) -> str:
    """Return the role that a label is of: ``Arg1`` of ``Arg1#2``."""
    return label.partition("#")[0]


def _events(annotations: Sequence[Annotation], verbs: Mapping[tuple[str, int], frozenset[str]]) -> Iterator[_Event]:
    signatures: dict[frozenset[str], frozenset[str]] = {}
    for clip_id, group in groupby(annotations, key=lambda annotation: annotation.clip_id):
        clip = list(group)
        facts = facts_of_clip(clip, verbs)
        for annotation in clip:
            for event in annotation.events:
                place = clip_id, annotation.annotation_index, event.index
                roles = tuple(
                    Role(a.arg, role_name(event.sense, a.arg, a.description)[0], a.value)
                    for a in event.arguments
                    if a.value
                )
                numbered = frozenset(role.arg for role in roles if role.arg in GENERIC_NAMES)
                signature = signatures.setdefault(numbered, numbered)
                filled = tuple(zip(labels_of(roles), (role.value for role in roles), strict=True))
                swaps = sum(1 for _ in kinds.swapped_places(event.verb, roles))
                yield _Event(place, event.sense, facts[event.index], signature, filled, swaps)


def exchanged(items: Sequence[T], suits: Callable[[int, T], bool], random: Random) -> tuple[list[T | None], list[T]]:
    """Permute items at random so that item ``i`` suits place ``i``.

    Returns:
        The items by place, None where none was found, and the items that are left over.
    """
    result: list[T | None] = list(items)
    spare: list[T] = []
    random.shuffle(result)
    for i, item in enumerate(result):
        if item is None or suits(i, item):
            continue
        for _ in range(_MENDING_TRIES):
            j = random.randrange(len(result))
            other = result[j]
            if other is not None and suits(i, other) and suits(j, item):
                result[i], result[j] = other, item
                break
        else:
            spare.append(item)
            result[i] = None
    return result, spare
