"""Which words may be said of the same thing, and which say the opposite (data/lexicon.json, data/propbank_roles.json).

A negative must be false. "The action is move" is true of someone who walks, and "the walker is person" of a man:
verbs and nouns that are synonyms of each other, or of which one is the other's kind, never replace each other.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from figclip_cli.prompts.english import head_lemma, noun_lemma, verb_lemma, with_right_articles
from figclip_cli.prompts.roles import lemma_of, propbank_definitions

_FILE = Path(__file__).parent / "data" / "lexicon.json"
# These begin many definitions ("make angry", "cause to fall") without being what the verb is a kind of.
_EMPTY_VERBS = frozenset("make cause be become have do get default in with like".split())
_PHRASES = re.compile(r"[,;/:]| or ")
_OPENING = re.compile(r"^(\(?(cause )?to\)?|be|\(.*?\))\s+")


@cache
def _lexicon() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return document


@cache
def _verb_relations() -> Mapping[str, frozenset[str]]:
    relations: dict[str, set[str]] = defaultdict(set)
    for group in _lexicon()["verb_groups"]:
        words = [word.replace("_", " ") for word in group.split()]
        for word in words:
            relations[word].update(words)
    for sense, definition in propbank_definitions().items():
        for defining in _defining_verbs(definition) & _verb_lemmas():
            relations[lemma_of(sense)].add(defining)
            relations[defining].add(lemma_of(sense))
    return {word: frozenset(related) for word, related in relations.items()}


@cache
def _verb_lemmas() -> frozenset[str]:
    """Return PropBank's verbs: "bore" and "saw" are verbs of their own, not the past of bear and see."""
    return frozenset(map(lemma_of, propbank_definitions()))


def _defining_verbs(definition: str) -> set[str]:
    """Return the verbs that begin the phrases of a PropBank definition: ``walk`` of "walk quickly, a contest"."""
    phrases = (_OPENING.sub("", phrase.strip()) for phrase in _PHRASES.split(definition.lower()))
    return {phrase.split()[0] for phrase in phrases if phrase} - _EMPTY_VERBS


@lru_cache(maxsize=1 << 14)
def verbs_like(verb: str) -> frozenset[str]:
    """Return a verb, its base form, and all verbs that may be said of the same event, lower case."""
    lower = verb.lower()
    base = lower if " " in lower or lower in _verb_lemmas() else verb_lemma(lower)
    relations = _verb_relations()
    return frozenset({lower, base}) | relations.get(lower, frozenset()) | relations.get(base, frozenset())


@cache
def mutual_verbs() -> frozenset[str]:
    """Return the verbs whose agent and patient do the same to each other: exchanging them says nothing false."""
    return frozenset(word.replace("_", " ") for word in _lexicon()["mutual_verbs"].split())


@cache
def _noun_relations() -> Mapping[str, frozenset[str]]:
    relations: dict[str, set[str]] = defaultdict(set)
    for group in _lexicon()["noun_groups"]:
        words = [noun_lemma(word.replace("_", " ")) for word in group.split()]
        for word in words:
            relations[word].update(words)
    for kind, members in _lexicon()["noun_kinds"].items():
        for member in map(noun_lemma, members.split()):
            relations[noun_lemma(kind)].add(member)
            relations[member].add(noun_lemma(kind))
    return {word: frozenset(related) for word, related in relations.items()}


def nouns_like(phrase: str) -> frozenset[str]:
    """Return the head of a phrase and all heads that may be said of the same thing, in the singular."""
    return _like(head_lemma(phrase))


@cache
def _like(noun: str) -> frozenset[str]:
    return frozenset({noun}) | _noun_relations().get(noun, frozenset())


@cache
def _antonyms() -> Mapping[str, str]:
    pairs = [tuple(word.replace("_", " ") for word in pair.split()) for pair in _lexicon()["antonyms"]]
    opposite: dict[str, str] = {}
    for one, other in pairs:
        opposite.setdefault(one, other)
        opposite.setdefault(other, one)
    return opposite


@lru_cache(maxsize=1 << 15)
def opposite_of(phrase: str) -> str | None:
    """Return a phrase with its first word that has an antonym replaced by it; None where none has one."""
    words = phrase.split()
    for place, word in enumerate(words):
        if opposite := _antonyms().get(word.lower()):
            return with_right_articles(" ".join([*words[:place], opposite, *words[place + 1 :]]))
    return None


@cache
def adjective_kinds() -> Mapping[str, frozenset[str]]:
    """Return what each listed adjective is about: ``{"red": {"colour"}, ...}``."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for kind, words in _lexicon()["adjectives"].items():
        for word in words.split():
            kinds[word].add(kind)
    return {word: frozenset(found) for word, found in kinds.items()}
