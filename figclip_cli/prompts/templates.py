"""The sentence made of an event, and when two sentences say the same.

A template gives a text in pieces that are joined by spaces. Neither words nor tokens reach across a space, so what is
known of a piece (its tokens, what it says) is known of it in every text, and a million texts are made of few pieces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from figclip_cli.errors import UsageError, nearest
from figclip_cli.prompts.natural import natural_clause
from figclip_cli.prompts.roles import GENERIC_NAMES, NOUN_ROLES, Role

PAPER = "paper"
_LEAD = "In this photo,"
_TRAILING = " .,;:!?-\N{EN DASH}\N{EM DASH}_\N{HORIZONTAL ELLIPSIS}"
_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})

Pieces = list[str]
Pieced = Callable[[str, Sequence[Role]], Pieces]
Edit = Callable[[Pieces, str, Mapping[int, Role]], Pieces]


@dataclass(frozen=True)
class Template:
    """How an event becomes a text.

    Attributes:
        name: What ``--template`` calls it, or the name of a user's file.
        pieces: Verb and roles in, the pieces of the text out.
        clause: The same without lead and full stop, for texts that join several events; None where there is no such.
        edit: Pieces, verb and edited roles in, the pieces of the edited text out; None where it is made anew.
        bag: The order of words says nothing: two texts of the same words are the same.
        sha256: Hash of a user's file, else empty.
    """

    name: str
    pieces: Pieced
    clause: Pieced | None
    edit: Edit | None = None
    bag: bool = False
    sha256: str = ""

    def text(self, verb: str, roles: Sequence[Role]) -> str:
        """Return the text of an event."""
        return " ".join(self.pieces(verb, roles))

    def meaning(self, pieces: Pieces) -> str:
        """Return what a text says, without case, articles and punctuation."""
        said = " ".join(map(normalised, pieces))
        if "  " in said or said[-1:] == " ":  # a piece of articles and punctuation alone says nothing
            said = " ".join(said.split())
        return " ".join(sorted(said.split())) if self.bag else said


def clean_value(value: str) -> str:
    """Return a value on one line, without extra spaces and trailing punctuation; ``...`` becomes empty."""
    return " ".join(value.split()).rstrip(_TRAILING)


@lru_cache(maxsize=1 << 19)
def normalised(text: str) -> str:
    """Return a text without case, articles, punctuation and extra spaces: equal results say the same."""
    return " ".join(filter(None, map(_normalised_chunk, text.split())))


@lru_cache(maxsize=1 << 19)
def _normalised_chunk(chunk: str) -> str:
    """Return the words between two spaces, normalised; no word reaches across a space."""
    return " ".join([word for word in _WORD.findall(chunk.lower()) if word not in _ARTICLES])


def _paper(verb: str, roles: Sequence[Role]) -> Pieces:
    """``In this photo, the action is VERB, the NAME is VALUE, ...``, roles in the order given (FiGCLIP, section 3).

    Every noun is bound to the name of its role. Numbered roles read "the walker is man"; modifiers and the scene read
    "direction is forward".
    """
    pieces = [_LEAD, *_paper_clause(verb, roles)]
    pieces[-1] += "."
    return pieces


def _paper_clause(verb: str, roles: Sequence[Role]) -> Pieces:
    pieces = ["the action is", verb]
    for role in roles:
        pieces[-1] += ","
        pieces += [_named(role.arg, role.name), role.value]
    return pieces


def _paper_edit(pieces: Pieces, verb: str, edits: Mapping[int, Role]) -> Pieces:
    edited = pieces.copy()
    edited[2] = verb + pieces[2][-1]
    for place, role in edits.items():
        at = 3 + 2 * place
        edited[at] = _named(role.arg, role.name)
        edited[at + 1] = role.value + pieces[at + 1][-1]
    return edited


@lru_cache(maxsize=1 << 15)
def _named(arg: str, name: str) -> str:
    return f"{'the ' if arg in GENERIC_NAMES else ''}{name} is"


def _natural(verb: str, roles: Sequence[Role]) -> Pieces:
    sentence = natural_clause(verb, roles)
    return [sentence[:1].upper() + sentence[1:] + "."]


def _verb_only(verb: str, roles: Sequence[Role]) -> Pieces:
    del roles
    return [_LEAD, "the action is", verb + "."]


def _nouns_only(verb: str, roles: Sequence[Role]) -> Pieces:
    pieces = ["In this photo:", *_nouns_clause(verb, roles)]
    pieces[-1] += "."
    return pieces


def _nouns_clause(verb: str, roles: Sequence[Role]) -> Pieces:
    del verb
    nouns = [role.value for role in roles if role.arg in NOUN_ROLES]
    return [f"{noun}," for noun in nouns[:-1]] + nouns[-1:] or ["nothing"]


def _shuffled(verb: str, roles: Sequence[Role]) -> Pieces:
    return shuffled_words(" ".join(_paper(verb, roles)))


def shuffled_words(text: str) -> Pieces:
    """Return the words of a text in an order that its words alone decide."""
    words = text.rstrip(".").replace(",", "").split()
    seed = hashlib.sha256(" ".join(sorted(words)).encode()).digest()
    Random(int.from_bytes(seed, "big")).shuffle(words)
    return words


TEMPLATES = {
    template.name: template
    for template in (
        Template(PAPER, _paper, _paper_clause, _paper_edit),
        Template("natural", _natural, lambda verb, roles: [natural_clause(verb, roles)]),
        Template("verb-only", _verb_only, lambda verb, roles: ["the action is", verb]),
        Template("nouns-only", _nouns_only, _nouns_clause, bag=True),
        Template("shuffled", _shuffled, None, bag=True),
    )
}
"""The templates that figclip has; ``verb-only``, ``nouns-only`` and ``shuffled`` are for ablations."""


def template_named(name: str) -> Template:
    """Return one of figclip's templates.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in TEMPLATES:
        raise UsageError(f"no template '{name}'", f"{nearest(name, TEMPLATES)}; or the path of a template file")
    return TEMPLATES[name]
