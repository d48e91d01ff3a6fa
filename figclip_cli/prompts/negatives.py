"""Hard negatives: prompts that keep almost every word of an event's prompt and are false."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, islice
from random import Random
from typing import Any

from figclip_cli.prompts.candidates import NounPool, Sense, SenseCatalogue, drawn
from figclip_cli.prompts.roles import GENERIC_NAMES, Role, labels_of
from figclip_cli.prompts.store import Negative
from figclip_cli.prompts.templates import last_word, normalised, paper_prompt

VERB_ROLE = "verb-role"
ROLE_NOUN = "role-noun"
ROLE_NOUN_SWAP = "role-noun-swap"
ROLE_NOUN_REPLACE = "role-noun-replace"
KINDS = (VERB_ROLE, ROLE_NOUN_SWAP, ROLE_NOUN_REPLACE)
"""The kinds in the order in which an event's negatives are written."""

# More than there are verb senses. A long text whose end is cut off reads the same whatever noun is put there.
_TRIES = 2000


@dataclass(frozen=True)
class Positive:
    """An event's prompt, and what its negatives must not say.

    Attributes:
        place: Clip id, annotation index and event index: random choices depend on it and the seed alone.
        verb: Verb of the prompt.
        sense: Its sense.
        roles: Roles of the prompt.
        verbs: Every verb that any annotation gave this event, as written and as lemma, lower case.
        values: Every value that any annotation gave this event, normalised.
        said: Every prompt of the clip, normalised.
    """

    place: tuple[str, int, int]
    verb: str
    sense: str
    roles: tuple[Role, ...]
    verbs: frozenset[str]
    values: frozenset[str]
    said: frozenset[str]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What a ``change`` calls each role."""
        return tuple(labels_of(self.roles))


class NegativeMaker:
    """Makes the negatives of one event after the other.

    Args:
        senses: Other verbs.
        nouns: Other values.
        meaning: What the model sees of a text, normalised; None for a text that the rule for long texts refuses.
        seed: With an event's place, decides every random choice.
    """

    def __init__(
        self, senses: SenseCatalogue, nouns: NounPool, *, meaning: Callable[[str], str | None], seed: int
    ) -> None:
        self._senses = senses
        self._nouns = nouns
        self._meaning = meaning
        self._seed = seed

    def make(self, positive: Positive, *, verb_role: int, role_noun: int) -> list[Negative]:
        """Return up to ``verb_role`` and up to ``role_noun`` negatives, swaps before replacements.

        None says what a prompt of the clip or another negative says; where too few exist, fewer are returned.
        """
        said = set(positive.said)
        made = self._take(verb_role, self._verb_roles(positive), said)
        nouns = chain(_swaps(positive), self._replacements(positive))
        return made + self._take(role_noun, nouns, said)

    def _take(self, count: int, candidates: Iterable[Negative], said: set[str]) -> list[Negative]:
        """Return the first ``count`` candidates that say something new."""
        taken: list[Negative] = []
        if not count:
            return taken
        for candidate in islice(candidates, _TRIES):
            meaning = self._meaning(candidate.text)
            if meaning is not None and meaning not in said:
                said.add(meaning)
                taken.append(candidate)
                if len(taken) == count:
                    break
        return taken

    def _verb_roles(self, positive: Positive) -> Iterator[Negative]:
        """Yield the prompt with other verbs, each with its own role names; no verb comes twice."""
        random = self._random(positive, VERB_ROLE)
        used = set(positive.verbs)
        args = frozenset(role.arg for role in positive.roles if role.arg in GENERIC_NAMES)
        for sense in chain.from_iterable(drawn(tier, random) for tier in self._senses.tiers(args)):
            if used.isdisjoint(sense.words):
                used |= sense.words
                yield _with_verb(positive, sense)

    def _replacements(self, positive: Positive) -> Iterator[Negative]:
        """Yield the prompt with the noun of one numbered role replaced, the roles taking turns."""
        random = self._random(positive, ROLE_NOUN_REPLACE)
        places = [place for place, role in enumerate(positive.roles) if role.arg in GENERIC_NAMES]
        turns = [self._other_nouns(positive, place, random) for place in drawn(places, random)]
        while turns:
            for turn in list(turns):
                if (negative := next(turn, None)) is None:
                    turns.remove(turn)
                else:
                    yield negative

    def _other_nouns(self, positive: Positive, place: int, random: Random) -> Iterator[Negative]:
        role = positive.roles[place]
        label = positive.labels[place]
        ending = last_word(role.value)
        for noun in self._nouns.draw(role.arg, random):
            if noun.only_clip == positive.place[0] or last_word(noun.value) in ("", ending):
                continue
            if normalised(noun.value) not in positive.values:
                values = {place: noun.value}
                change = {"role": label, "from": role.value, "to": noun.value}
                yield _with_values(positive, values, ROLE_NOUN_REPLACE, change)

    def _random(self, positive: Positive, kind: str) -> Random:
        parts = "\0".join(map(str, (self._seed, *positive.place, kind)))
        return Random(int.from_bytes(hashlib.sha256(parts.encode()).digest(), "big"))


def _with_verb(positive: Positive, sense: Sense) -> Negative:
    """Return the prompt with another verb; a role that verb does not define gets its generic name."""
    roles, names = [], {}
    for label, role in zip(positive.labels, positive.roles, strict=True):
        name = sense.names.get(role.arg) or GENERIC_NAMES.get(role.arg, role.name)
        if name != role.name:
            names[label] = [role.name, name]
        roles.append(Role(role.arg, name, role.value))
    change = {
        "verb": {"from": positive.sense, "to": sense.sense},
        "word": {"from": positive.verb, "to": sense.verb},
        "role_names": names,
    }
    return Negative(VERB_ROLE, paper_prompt(sense.verb, roles), change)


def _swaps(positive: Positive) -> Iterator[Negative]:
    """Yield the prompt with the nouns of two numbered roles exchanged: agent and patient first.

    Roles that read the same are no pair: exchanging their nouns only changes the order of words.
    """
    roles = positive.roles
    labels = positive.labels
    places = [place for place, role in enumerate(roles) if role.arg in GENERIC_NAMES]
    pairs = combinations(sorted(places, key=lambda place: roles[place].arg), 2)
    for one, other in pairs:
        same_role = normalised(roles[one].name) == normalised(roles[other].name)
        if not same_role and normalised(roles[one].value) != normalised(roles[other].value):
            values = {one: roles[other].value, other: roles[one].value}
            yield _with_values(positive, values, ROLE_NOUN_SWAP, {"swap": [labels[one], labels[other]]})


def _with_values(positive: Positive, values: dict[int, str], kind: str, change: dict[str, Any]) -> Negative:
    roles = [Role(role.arg, role.name, values.get(place, role.value)) for place, role in enumerate(positive.roles)]
    return Negative(kind, paper_prompt(positive.verb, roles), change)
