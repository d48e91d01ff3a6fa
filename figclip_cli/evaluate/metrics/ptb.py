"""Words of a sentence as pycocoevalcap's PTBTokenizer gives them: Penn Treebank tokens, lower case, no punctuation.

That class runs Stanford CoreNLP 3.4.1 in Java with ``-preserveLines -lowerCase`` and drops 16 marks. This module needs
no Java and is the only tokeniser that figclip's numbers are made with. The lexer takes, at each place, the kind of
token that reaches farthest together with what must follow it, and of equal ones the first kind.

Two quirks of the original are kept. Brackets become ``-lrb-`` and ``-rrb-``, which survive because the list of dropped
marks has them in capitals. A fraction after a number is one token with a no-break space in it, which scorers that
split at white space see as two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from figclip_cli.evaluate.metrics.ptb_kinds import ABBREVIATIONS, KINDS, SPLIT_IN_TWO, STARTS_SENTENCE

# Quotation marks are dropped whichever way they are turned, an ellipsis and a dash of up to four at any length.
_DROPPED = re.compile(r"\"|&quot;|&apos;|[`']{1,2}|[.?!,:;]|-{1,4}|\.(?: ?\.){2,}")
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&apos;": "'"}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SPACE = re.compile(r"[\t\n\v\f\r ]|&nbsp;")
# A word of letters alone, perhaps with one mark, before a space: nothing longer can begin there.
_PLAIN = re.compile(r"([A-Za-z]+)([.,?!;:]?)(?=[ \n])")


def ptb_words(text: str) -> str:
    """Return the words of a sentence, lower case, with one space between them.

    What is not ASCII becomes a space first, as in densevid_eval.
    """
    return " ".join(_words(text))


def ptb_all(texts: Iterable[str]) -> list[str]:
    """Return :func:`ptb_words` of each text; equal ones are cut up once."""
    known: dict[str, str] = {}
    made = []
    for text in texts:
        words = known.get(text)
        if words is None:
            words = known[text] = ptb_words(text)
        made.append(words)
    return made


def _words(text: str) -> list[str]:
    # A line of the original ends with a newline, which is what may have to follow a token.
    line = _SPACE.sub(" ", _NOT_ASCII.sub(" ", text)).strip() + "\n"
    words: list[str] = []
    place, end = 0, len(line) - 1
    while place < end:
        if line[place] == " ":
            place += 1
            continue
        plain = _PLAIN.match(line, place)
        if plain and not _is_special(plain[1], plain[2]):
            words.append(plain[1].lower())
            place = plain.end()
            continue
        token = _longest(line, place)
        if not token:
            place += 1  # what the lexer cannot read is left out
            continue
        place += len(token)
        if not _DROPPED.fullmatch(token):
            words.append(_written(token))
    return words


def _is_special(word: str, mark: str) -> bool:
    """Return whether a word of letters is two words, or may keep its full stop."""
    small = word.lower()
    return small in SPLIT_IN_TWO or (mark == "." and (len(small) == 1 or small in ABBREVIATIONS))


def _longest(line: str, place: int) -> str:
    """Return the token at a place; empty where there is none."""
    token, farthest, first = "", place, KINDS[0]
    for kind in KINDS:
        match = kind.match(line, place)
        if match and match.end() > farthest:
            token, farthest, first = match[1], match.end(), kind
    if first is KINDS[0]:
        return token[: len(token) - SPLIT_IN_TWO.get(token.lower(), 0)]
    return _initial(line, place, token) if len(token) == 2 and token[1] == "." else token


def _initial(line: str, place: int, token: str) -> str:
    """Return a letter with its full stop, or without it where a sentence begins after it."""
    return token[0] if STARTS_SENTENCE.match(line, place + 2) else token


def _written(token: str) -> str:
    """Return how the lexer writes a token."""
    if token in _BRACKETS:
        return _BRACKETS[token]
    if "(" in token or ")" in token:  # telephone numbers and faces; an address has none
        token = token.replace("(", "-LRB-").replace(")", "-RRB-")
    for entity, letter in _ENTITIES.items():
        if token.startswith("&") or entity in token:
            token = token.replace(entity, letter)
    return token.replace(" ", "\N{NO-BREAK SPACE}").lower()
