"""The kinds of hard negatives: each yields candidates that keep almost every word of a prompt and are false.

A candidate says what it changed in terms that undo it (docs/file-formats.md, ``change``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, pairwise
from typing import Any

import msgspec

from figclip_cli.prompts.candidates import Draws, Facts, Sense, SenseCatalogue, ValuePool, drawn
from figclip_cli.prompts.english import PREPOSITIONS, head_lemma, with_right_articles
from figclip_cli.prompts.lexicon import adjective_kinds, mutual_verbs, nouns_like, opposite_of
from figclip_cli.prompts.overflow import Fitted, Place
from figclip_cli.prompts.roles import GENERIC_NAMES, NOUN_ROLES, SCENE, Role
from figclip_cli.prompts.templates import Pieces, normalised

VERB_ROLE = "verb-role"
ROLE_NOUN = "role-noun"
ROLE_NOUN_SWAP = "role-noun-swap"
ROLE_NOUN_REPLACE = "role-noun-replace"
ATTRIBUTE_SWAP = "attribute-swap"
MANNER_REPLACE = "manner-replace"
DIRECTION_REPLACE = "direction-replace"
SCENE_REPLACE = "scene-replace"
SAME_VIDEO = "same-video"
TEMPORAL = "temporal"
REPLACED_ARG = {MANNER_REPLACE: "manner", DIRECTION_REPLACE: "direction", SCENE_REPLACE: SCENE}
KINDS = (VERB_ROLE, ROLE_NOUN_SWAP, ROLE_NOUN_REPLACE, ATTRIBUTE_SWAP, *REPLACED_ARG, SAME_VIDEO)
"""Every kind, in the order in which an event's negatives are written."""

REQUESTS = (VERB_ROLE, ROLE_NOUN, *KINDS[1:], TEMPORAL)
"""What a number of negatives can be asked for.

``role-noun`` is swaps and, where they do not suffice, replacements; ``temporal`` goes with joined texts.
"""


class Positive(msgspec.Struct, frozen=True, gc=False):
    """An event's prompt, and what its negatives must not say.

    Attributes:
        place: Clip id, annotation index and event index: random choices depend on it and the seed alone.
        verb: Verb of the prompt.
        sense: Its sense.
        roles: Roles of the prompt.
        pieces: The prompt, in pieces.
        facts: What is true of the event by any annotation.
        said: What the prompts of the clip say, by their places.
        prompts: The prompts of the annotation, by their places.
        labels: What a ``change`` calls each role.
        numbered: Places of the numbered roles.
    """

    place: Place
    verb: str
    sense: str
    roles: tuple[Role, ...]
    pieces: Pieces
    facts: Facts
    said: Mapping[Place, str]
    prompts: Mapping[Place, Fitted]
    labels: tuple[str, ...]
    numbered: tuple[int, ...]

    @property
    def said_of_event(self) -> set[str]:
        """What the prompts of this event say, in any annotation."""
        return {text for place, text in self.said.items() if place[2] == self.place[2]}


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A possible negative.

    Attributes:
        kind: One of :data:`KINDS`.
        verb: Its verb.
        edits: Roles that are not the prompt's, by their places there.
        change: What was changed, from the prompt to this.
        pieces: The text where it is not to be made of verb and roles.
    """

    kind: str
    verb: str
    edits: dict[int, Role]
    change: dict[str, Any]
    pieces: Pieces | None = None


def verb_roles(positive: Positive, senses: SenseCatalogue, random: Draws) -> Iterator[Candidate]:
    """Yield the prompt with other verbs, each with its own role names; no verb comes twice."""
    args = frozenset(positive.roles[place].arg for place in positive.numbered)
    taken = set(positive.facts.verbs)
    for tier in senses.tiers(args):
        for sense in drawn(tier, random):
            if sense.word not in taken:
                taken.add(sense.word)
                yield with_verb(positive, sense)


def with_verb(positive: Positive, sense: Sense) -> Candidate:
    """Return the prompt with another verb; a role that verb does not define gets its generic name."""
    edits: dict[int, Role] = {}
    names: dict[str, Any] = {}
    for place in positive.numbered:
        role = positive.roles[place]
        name = sense.names.get(role.arg) or GENERIC_NAMES[role.arg]
        if name != role.name:
            names[positive.labels[place]] = {"from": role.name, "to": name}
            edits[place] = Role(role.arg, name, role.value)
    change: dict[str, Any] = {
        "verb": {"from": positive.verb, "to": sense.verb},
        "verb_sense": {"from": positive.sense, "to": sense.sense},
    }
    if names:
        change["names"] = names
    return Candidate(VERB_ROLE, sense.verb, edits, change)


def swapped_places(verb: str, roles: tuple[Role, ...]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of numbered roles whose nouns can be exchanged, agent and patient first.

    Roles that read the same are no pair: exchanging their nouns only changes the order of words. Neither are nouns that
    may be said of the same thing, nor those who do something to each other: who hugs whom is all the same.
    """
    if verb.lower() in mutual_verbs():
        return
    places = [place for place, role in enumerate(roles) if role.arg in GENERIC_NAMES]
    for one, other in combinations(sorted(places, key=lambda place: roles[place].arg), 2):
        same_role = normalised(roles[one].name) == normalised(roles[other].name)
        if not same_role and not _interchangeable(roles[one].value, roles[other].value):
            yield one, other


def _interchangeable(one: str, other: str) -> bool:
    """Return whether two values say the same: equal but for case and articles, or bare nouns for the same thing."""
    if normalised(one) == normalised(other):
        return True
    bare = " " not in normalised(one) and " " not in normalised(other)
    return bare and head_lemma(other) in nouns_like(one)


def swaps(positive: Positive) -> Iterator[Candidate]:
    """Yield the prompt with the nouns of two numbered roles exchanged."""
    for one, other in swapped_places(positive.verb, positive.roles):
        values = {one: positive.roles[other].value, other: positive.roles[one].value}
        yield with_values(positive, values, ROLE_NOUN_SWAP)


def replacements(positive: Positive, pool: ValuePool, random: Draws) -> Iterator[Candidate]:
    """Yield the prompt with the noun of one numbered role replaced, the roles taking turns."""
    turns = [
        _other_values(positive, place, pool, ROLE_NOUN_REPLACE, random) for place in drawn(positive.numbered, random)
    ]
    while turns:
        for turn in list(turns):
            if (candidate := next(turn, None)) is None:
                turns.remove(turn)
            else:
                yield candidate


def modifier_replacements(positive: Positive, kind: str, pool: ValuePool, random: Draws) -> Iterator[Candidate]:
    """Yield the prompt with its manner, direction or scene replaced: by the opposite where there is one."""
    places = [place for place, role in enumerate(positive.roles) if role.arg == REPLACED_ARG[kind]]
    for place in places:
        opposite = opposite_of(positive.roles[place].value)
        if opposite is not None and normalised(opposite) not in positive.facts.values:
            yield with_values(positive, {place: opposite}, kind)
    for place in places:
        yield from _other_values(positive, place, pool, kind, random)


def _other_values(positive: Positive, place: int, pool: ValuePool, kind: str, random: Draws) -> Iterator[Candidate]:
    arg = positive.roles[place].arg
    for value in pool.draw(arg, random):
        if value.only_clip != positive.place[0] and is_false(value.text, arg, positive.facts):
            yield with_values(positive, {place: value.text}, kind)


def is_false(value: str, arg: str, facts: Facts) -> bool:
    """Return whether a value of a role is about something else than what annotators gave that role."""
    noun = head_lemma(value)
    return bool(noun) and noun not in facts.nouns.get(arg, ()) and normalised(value) not in facts.values


def attribute_swaps(positive: Positive) -> Iterator[Candidate]:
    """Yield the prompt with adjectives of two roles exchanged, colour with colour, age with age."""
    roles = positive.roles
    found = [(place, word) for place in range(len(roles)) for word in _attributes(roles[place])]
    kinds = adjective_kinds()
    for (one, word), (other, other_word) in combinations(found, 2):
        if one != other and not kinds[word.lower()].isdisjoint(kinds[other_word.lower()]):
            values = {
                one: _with_word(roles[one].value, word, other_word),
                other: _with_word(roles[other].value, other_word, word),
            }
            if all(normalised(values[place]) != normalised(roles[place].value) for place in values):
                yield with_values(positive, values, ATTRIBUTE_SWAP)


def _attributes(role: Role) -> Iterator[str]:
    """Yield the listed adjectives of a role that stand before a word they can be about: not the last of "in black"."""
    if role.arg in NOUN_ROLES:
        words = role.value.split()
        for word, following in pairwise(words):
            if word.lower() in adjective_kinds() and following.lower() not in PREPOSITIONS:
                yield word


def _with_word(phrase: str, word: str, other: str) -> str:
    words = phrase.split()
    if other.lower() in map(str.lower, words):
        return phrase  # "red red ball" says nothing else
    return with_right_articles(" ".join(other if each == word else each for each in words))


def same_video(positive: Positive, random: Draws) -> Iterator[Candidate]:
    """Yield the prompts of the other events of the same video, which are true of it and false of this event."""
    others = [(place[2], prompt.pieces) for place, prompt in positive.prompts.items() if place != positive.place]
    for index, pieces in drawn(others, random):
        yield Candidate(SAME_VIDEO, positive.verb, {}, {"event": {"from": positive.place[2], "to": index}}, pieces)


def with_values(positive: Positive, values: dict[int, str], kind: str) -> Candidate:
    """Return the prompt with some values changed, by the places of their roles."""
    edits: dict[int, Role] = {}
    change: dict[str, Any] = {}
    for place, value in values.items():
        role = positive.roles[place]
        change[positive.labels[place]] = {"from": role.value, "to": value}
        edits[place] = Role(role.arg, role.name, value)
    return Candidate(kind, positive.verb, edits, {"values": change})


def kinds_of(request: str) -> Iterable[str]:
    """Return the kinds that a request may be met with."""
    return (ROLE_NOUN_SWAP, ROLE_NOUN_REPLACE) if request == ROLE_NOUN else (request,)
