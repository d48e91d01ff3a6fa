"""Prompts longer than the model's context: which roles go, and what the model sees of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.templates import Pieces, Template, clean_value

Place = tuple[str, int, int]
"""Clip id, annotation index and event index."""

OnOverflow = Literal["drop", "truncate", "error"]

DROP_ORDER = ("goal", "purpose", "location", "manner", "direction", "scene", "Arg5", "Arg4", "Arg3", "Arg2", "Arg1")
"""Roles in the order in which they are left out: the least informative first, never the verb or Arg0."""


class Fitted(msgspec.Struct, frozen=True, gc=False):
    """A prompt after the rule was applied.

    Attributes:
        pieces: The prompt, in pieces.
        roles: Roles in the prompt, in order; an Arg0 may have lost words.
        lost: Roles left out, in their original order.
        tokens: Of the prompt with every role.
        overlong: These are more than the context.
        words_cut: Arg0 lost words.
    """

    pieces: Pieces
    roles: tuple[Role, ...]
    lost: tuple[Role, ...]
    tokens: int
    overlong: bool
    words_cut: bool


def fit(
    verb: str,
    roles: Sequence[Role],
    *,
    template: Template,
    counter: TokenCounter,
    on_overflow: OnOverflow,
    where: Place,
) -> Fitted:
    """Return the prompt of an event so that it follows the rule for long texts.

    Args:
        where: Clip id, annotation and event index, for the message.

    Raises:
        InputError: The text is over the context and the rule is ``error``.
        Problem: Nothing more can be left out, and the text is still over the context.
    """
    pieces = template.pieces(verb, roles)
    tokens = counter.count_pieces(pieces)
    if tokens <= counter.context_length:
        return Fitted(pieces, tuple(roles), (), tokens, False, False)
    if on_overflow == "truncate":
        return Fitted(pieces, tuple(roles), (), tokens, True, False)
    if on_overflow == "error":
        raise InputError(
            f"{_words(where)}: the prompt has {tokens} tokens, the model takes {counter.context_length}",
            "--on-overflow drop leaves out the least informative roles, truncate keeps the text as it is",
        )
    return _Shortener(verb, template, counter).shortened(roles, tokens, _words(where))


def _words(place: Place) -> str:
    return f"clip {place[0]}, annotation {place[1]}, event {place[2]}"


class _Shortener:
    """Shortens the prompt of one event."""

    def __init__(self, verb: str, template: Template, counter: TokenCounter) -> None:
        self._verb = verb
        self._template = template
        self._counter = counter

    def shortened(self, roles: Sequence[Role], tokens: int, where: str) -> Fitted:
        dropped = self._drop(roles)
        kept = [role for place, role in enumerate(roles) if place not in dropped]
        lost = tuple(role for place, role in enumerate(roles) if place in dropped)
        fits = self._fits(kept)
        short = kept if fits else self._cut(kept)
        if short is None:
            raise Problem(
                f"{where}: verb and agent alone are over the model's {self._counter.context_length} tokens",
                "correct the annotation, or pass --on-overflow truncate",
            )
        return Fitted(self._template.pieces(self._verb, short), tuple(short), lost, tokens, True, not fits)

    def _fits(self, roles: Sequence[Role]) -> bool:
        return self._counter.count_pieces(self._template.pieces(self._verb, roles)) <= self._counter.context_length

    def _drop(self, roles: Sequence[Role]) -> set[int]:
        """Return the places of the roles to leave out; the later of two with the same ``arg`` goes first."""
        dropped: set[int] = set()
        for arg in DROP_ORDER:
            for place in reversed([place for place, role in enumerate(roles) if role.arg == arg]):
                if self._fits([role for other, role in enumerate(roles) if other not in dropped]):
                    return dropped
                dropped.add(place)
        return dropped

    def _cut(self, roles: Sequence[Role]) -> list[Role] | None:
        """Take words off the end of the agents, the last agent first, until the prompt fits; one word always stays."""
        kept = list(roles)
        for place in reversed(range(len(kept))):
            role = kept[place]
            words = role.value.split()
            for count in range(len(words) - 1, 0, -1):
                value = clean_value(" ".join(words[:count]))
                if not value:
                    break
                kept[place] = Role(role.arg, role.name, value)
                if self._fits(kept):
                    return kept
        return None
