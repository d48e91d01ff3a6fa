"""A fluent sentence by rule: "A man with short hair walks forward slowly in an apartment".

The subject is the agent, else the patient, else someone; the verb agrees with it. Objects follow without a preposition
(Arg1) or with the one that the role's name asks for ("thing looked at": at; "instrument": with).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from figclip_cli.prompts.english import PREPOSITIONS, inflected, is_adjective, is_plural, with_article
from figclip_cli.prompts.roles import SCENE, Role

_ENDING_PREPOSITIONS = frozenset("about against at by for from in into of on onto over through to toward with".split())
# What a role is called in PropBank, and the preposition that introduces it; the first that matches wins.
_PREPOSITION_OF_NAME = tuple(
    (re.compile(rf"\b({words})", re.IGNORECASE), preposition)
    for words, preposition in (
        ("hearer|listener|recipient|receiver|given to|addressee|audience", "to"),
        ("instrument|tool|weapon|implement|means", "with"),
        ("beneficiary|benefactive", "for"),
        ("start|source|origin|giver|taken from", "from"),
        ("end|destination|goal|target", "to"),
        ("subject|topic|about", "about"),
        ("attribute|role", "as"),
        ("location|place|surface|path", "on"),
        ("cause|reason", "because of"),
        ("co-|partner|opponent|companion", "with"),
    )
)
_PREPOSITION_OF_ARG = {"Arg2": "with", "Arg3": "from", "Arg4": "to", "Arg5": "as"}
_DIRECTIONS = frozenset(
    "forward forwards backward backwards up down upward upwards downward downwards away ahead around back straight "
    "sideways upstairs downstairs outside inside out home left right north south east west".split()
)
_SIDES = frozenset({"left", "right", "side"})
_PLACES = frozenset("outside inside outdoors indoors upstairs downstairs here there".split())
_PLAIN_MANNERS = frozenset("fast hard together alone apart well straight".split())
_CONNECTIVES = PREPOSITIONS | {"while", "as", "like", "because", "so", "and", "when"}


def natural_clause(verb: str, roles: Sequence[Role]) -> str:
    """Return a sentence without its full stop."""
    left = list(roles)
    subject = _take(left, "Arg0") or _take(left, "Arg1")
    if subject is None:
        who, predicate = "someone", inflected(verb, "VBZ")
    else:
        who = with_article(subject.value)
        predicate = _agreeing(verb, subject.value)
    objects = [role for role in left if role.arg.startswith("Arg")]
    others = {arg: [role.value for role in left if role.arg == arg] for arg in ("direction", "manner", "purpose")}
    parts = [who, predicate, *map(_object, objects)]
    parts += map(_direction, others["direction"])
    parts += map(_manner, others["manner"])
    parts += [_with("to", role.value) for role in left if role.arg == "goal"]
    parts += map(_purpose, others["purpose"])
    parts += [_place(role.value) for role in left if role.arg == "location"]
    parts += [_place(role.value) for role in left if role.arg == SCENE]
    return " ".join(parts)


def _take(roles: list[Role], arg: str) -> Role | None:
    found = next((role for role in roles if role.arg == arg), None)
    if found is not None:
        roles.remove(found)
    return found


@lru_cache(maxsize=1 << 15)
def _agreeing(verb: str, subject: str) -> str:
    first = subject.split()[0].lower()
    plural = is_plural(subject) or first in ("i", "you")
    if verb.split()[0] == "be":
        return ("am" if first == "i" else "are" if plural else "is") + verb[2:]
    return verb if plural else inflected(verb, "VBZ")


def _object(role: Role) -> str:
    if preposition := _preposition(role.arg, role.name):
        return _with(preposition, role.value)
    return with_article(role.value)


@lru_cache(maxsize=1 << 15)
def _preposition(arg: str, name: str) -> str:
    """Return the preposition that a role's name asks for, empty for a direct object."""
    last = re.findall(r"[a-z]+", name.lower())[-1:]
    if last and last[0] in _ENDING_PREPOSITIONS:
        return last[0]
    if arg in ("Arg0", "Arg1"):
        return ""
    named = next((preposition for pattern, preposition in _PREPOSITION_OF_NAME if pattern.search(name)), "")
    return named or _PREPOSITION_OF_ARG[arg]


@lru_cache(maxsize=1 << 16)
def _with(preposition: str, phrase: str) -> str:
    """Return a phrase after a preposition, unless it begins with one."""
    begins = phrase.split()[0].lower() in PREPOSITIONS
    return phrase if begins else f"{preposition} {with_article(phrase)}"


@lru_cache(maxsize=1 << 15)
def _direction(phrase: str) -> str:
    words = phrase.lower().split()
    if words[0] in _SIDES and len(words) == 1:
        return f"to the {phrase}"
    return phrase if words[0] in _DIRECTIONS | _CONNECTIVES else _with("toward", phrase)


@lru_cache(maxsize=1 << 15)
def _manner(phrase: str) -> str:
    words = phrase.lower().split()
    if any(word.endswith("ly") for word in words) or words[0].endswith("ing") or words[0] in _CONNECTIVES:
        return phrase
    if phrase.lower() in _PLAIN_MANNERS:
        return phrase
    if len(words) == 1:
        return f"in a {phrase} manner" if is_adjective(words[0]) else f"with {phrase}"
    return _with("with", phrase)


@lru_cache(maxsize=1 << 15)
def _purpose(phrase: str) -> str:
    first = phrase.split()[0].lower()
    if first in _CONNECTIVES or first == "in":
        return phrase
    is_verb = inflected(first, "VBZ") != first and not first.endswith("ing")
    return f"to {phrase}" if is_verb and len(phrase.split()) > 1 else f"for {phrase}"


@lru_cache(maxsize=1 << 15)
def _place(phrase: str) -> str:
    return phrase if phrase.split()[0].lower() in _PLACES else _with("in", phrase)
