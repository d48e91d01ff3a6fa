"""Prompts longer than the model's context: which roles go, and what the model sees of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from figclip_cli.errors import InputError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.templates import clean_value, paper_prompt

OnOverflow = Literal["drop", "truncate", "error"]

DROP_ORDER = ("goal", "purpose", "location", "manner", "direction", "scene", "Arg5", "Arg4", "Arg3", "Arg2", "Arg1")
"""Roles in the order in which they are left out: the least informative first, never the verb or Arg0."""


@dataclass(frozen=True)
class Fitted:
    """A prompt after the rule was applied.

    Attributes:
        text: The prompt.
        roles: Roles in the prompt, in order; an Arg0 may have lost words.
        lost: Roles left out, in their original order.
        overlong: The prompt with every role was over the context.
        words_cut: Arg0 lost words.
    """

    text: str
    roles: tuple[Role, ...]
    lost: tuple[Role, ...]
    overlong: bool
    words_cut: bool


def fit(verb: str, roles: Sequence[Role], *, counter: TokenCounter, on_overflow: OnOverflow, where: str) -> Fitted:
    """Return the prompt of an event so that it follows the rule for long texts.

    Args:
        where: Clip and event, for the message.

    Raises:
        InputError: The text is over the context and the rule is ``error``, or nothing more can be left out.
    """
    text = paper_prompt(verb, roles)
    if counter.fits(text):
        return Fitted(text, tuple(roles), (), False, False)
    if on_overflow == "truncate":
        return Fitted(text, tuple(roles), (), True, False)
    if on_overflow == "error":
        raise InputError(
            f"{where}: the prompt has {counter.count(text)} tokens, the model takes {counter.context_length}",
            "--on-overflow drop leaves out the least informative roles, truncate keeps the text as it is",
        )
    dropped = _drop(verb, roles, counter)
    kept = [role for place, role in enumerate(roles) if place not in dropped]
    lost = tuple(role for place, role in enumerate(roles) if place in dropped)
    fits = counter.fits(paper_prompt(verb, kept))
    short = kept if fits else _cut(verb, kept, counter)
    if short is None:
        raise InputError(
            f"{where}: verb and agent alone are over the {counter.context_length} tokens that the model takes",
            "correct the annotation, or pass --on-overflow truncate",
        )
    return Fitted(paper_prompt(verb, short), tuple(short), lost, True, not fits)


def _drop(verb: str, roles: Sequence[Role], counter: TokenCounter) -> set[int]:
    """Return the places of the roles to leave out; the later of two with the same ``arg`` goes first."""
    dropped: set[int] = set()
    for arg in DROP_ORDER:
        for place in reversed([place for place, role in enumerate(roles) if role.arg == arg]):
            if counter.fits(paper_prompt(verb, [r for p, r in enumerate(roles) if p not in dropped])):
                return dropped
            dropped.add(place)
    return dropped


def _cut(verb: str, roles: Sequence[Role], counter: TokenCounter) -> list[Role] | None:
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
            if counter.fits(paper_prompt(verb, kept)):
                return kept
    return None
