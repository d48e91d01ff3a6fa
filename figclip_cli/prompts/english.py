"""The little English that rules need: forms of verbs, heads and number of noun phrases, articles.

Word forms come from LemmInflect's dictionary, the choice between *a* and *an* from inflect.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inflect import engine

PREPOSITIONS = frozenset(
    "about above across after against along among around as at away before behind below beneath beside between beyond "
    "by down during for from in inside into near next of off on onto out outside over past through throughout to "
    "toward towards under underneath up upon via with within without".split()
)
_CLAUSE_STARTS = frozenset(
    "who whom whose that which wearing holding carrying riding driving standing sitting walking running looking lying "
    "dressed named called covered filled".split()
)
_DETERMINERS = frozenset(
    "a an the this that these those my your his her its our their some any no every each all both another other "
    "several many few one two three four five six seven eight nine ten".split()
)
_PRONOUNS = frozenset(
    "i you he she it we they him them her himself herself itself themselves someone somebody everyone everybody anyone "
    "anybody nobody something nothing everything each".split()
)
_PLURAL_STARTS = frozenset(
    "we they you i these those both many several few two three four five six seven eight".split()
)
_PLURAL_HEADS = frozenset("we they you i them people police these those".split())
_MASS_NOUNS = frozenset(
    "water air hair food blood fire smoke snow sand rain light darkness music dirt grass ice mud dust money furniture "
    "traffic clothing equipment luggage wood metal milk coffee tea beer wine bread rice meat paper fog lightning "
    "electricity gas oil paint outside inside outdoors indoors".split()
)
_ARTICLE = re.compile(r"\b(an?) (\S+)", re.IGNORECASE)
_WORDS = re.compile(r"[\w'-]+")


@cache
def verb_lemma(word: str) -> str:
    """Return the base form of a verb: ``ran`` gives ``run``. Of several, the first by LemmInflect."""
    from lemminflect import getLemma

    lemmas = getLemma(word.lower(), "VERB")
    return str(lemmas[0]) if lemmas else word.lower()


@cache
def noun_lemma(word: str) -> str:
    """Return the singular of a noun: ``men`` gives ``man``; a pronoun or an unknown word stays as it is."""
    from lemminflect import getLemma

    lower = word.lower()
    if lower in _PRONOUNS:
        return lower
    lemmas = getLemma(lower, "NOUN")
    return str(lemmas[0]) if lemmas else lower


@cache
def inflected(verb: str, tag: str) -> str:
    """Return a verb in the form of a Penn tag: ``VBZ`` walks, ``VBG`` walking. Only a first word changes."""
    from lemminflect import getInflection

    first, space, rest = verb.partition(" ")
    forms = getInflection(first, tag)
    return f"{forms[0] if forms else first}{space}{rest}"


@cache
def is_adjective(word: str) -> bool:
    """Return whether a word is known as an adjective and not as a noun."""
    from lemminflect import getAllLemmas

    kinds = getAllLemmas(word.lower())
    return "ADJ" in kinds and "NOUN" not in kinds


@lru_cache(maxsize=1 << 19)
def head(phrase: str) -> str:
    """Return the noun that a phrase is about, lower case: ``two tall men in black`` gives ``men``.

    It is the last word before the first preposition or clause; of ``up`` it is the whole. Empty without a word.
    """
    before: list[str] = []
    words = _WORDS.findall(phrase.lower())
    for word in words:
        if word in PREPOSITIONS or word in _CLAUSE_STARTS:
            if before:
                break
            continue  # "in the park": the phrase begins with its preposition
        before.append(word)
    named = [word for word in before if word not in _DETERMINERS]
    return (named or before or words or [""])[-1]


@lru_cache(maxsize=1 << 19)
def head_lemma(phrase: str) -> str:
    """Return the head of a phrase as a dictionary lists it: ``two tall men in black`` gives ``man``."""
    return noun_lemma(head(phrase))


def is_plural(phrase: str) -> bool:
    """Return whether a verb agrees with the phrase in the plural."""
    words = phrase.lower().split()
    subject = words[: next((n for n, word in enumerate(words) if n and word in PREPOSITIONS), len(words))]
    if "and" in subject or (words and words[0] in _PLURAL_STARTS):
        return True
    noun = head(phrase)
    return noun in _PLURAL_HEADS or (noun not in _PRONOUNS and noun_lemma(noun) != noun and not noun.endswith("ss"))


@lru_cache(maxsize=1 << 19)
def with_article(phrase: str) -> str:
    """Return a noun phrase with *a* or *an* where it needs one."""
    words = phrase.split()
    first = words[0].lower() if words else ""
    noun = head(phrase)
    named = words and words[0][:1].isupper() and words[0][1:].islower() and len(words) <= 2
    if not words or first in _DETERMINERS | _PRONOUNS | PREPOSITIONS or named or first.endswith("'s"):
        return phrase
    if first[:1].isdigit() or noun in _MASS_NOUNS or is_plural(phrase):
        return phrase
    return f"{article(words[0])} {phrase}"


@cache
def article(word: str) -> str:
    """Return ``a`` or ``an``, whichever goes before a word."""
    return str(_inflect().a(word)).partition(" ")[0]


def with_right_articles(phrase: str) -> str:
    """Return a phrase in which every *a* and *an* suits the word after it."""
    return _ARTICLE.sub(
        lambda found: f"{_cased(article(found[2]), found[1])} {found[2]}" if found[2][0].isalpha() else found[0], phrase
    )


def _cased(word: str, like: str) -> str:
    return word.capitalize() if like[0].isupper() else word


@cache
def _inflect() -> engine:
    from inflect import engine

    return engine()
