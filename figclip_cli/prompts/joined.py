"""One text per clip that tells of all its events: "In this video, first ..., then ...".

CLIP takes 77 tokens, five events need about 190 of them: most roles have to go, in the order of single prompts, the
later event's first. Negatives tell the events in another order (``temporal``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli import __version__
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.candidates import Draws, drawn
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.kinds import TEMPORAL
from figclip_cli.prompts.overflow import DROP_ORDER
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.store import Negative, encoded, write_lines
from figclip_cli.prompts.templates import Pieces, Template, clean_value

FORMAT = "figclip-joined-texts"
FORMAT_VERSION = 1
_MOST_ORDERS = 720


class JoinedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the text says of one event; roles that had to go are not among its roles."""

    event_index: int
    roles: tuple[Role, ...]
    verb: str


class JoinedText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line of the file of joined texts.

    Attributes:
        annotation_index: Which annotation of the clip.
        clip_id: The clip.
        events: In the order of the text.
        lost_roles: How many roles of each kind had to go.
        negatives: The events in another order; ``change`` has it, by places in ``events``.
        text: The text.
    """

    annotation_index: int
    clip_id: str
    events: tuple[JoinedEvent, ...]
    lost_roles: dict[str, int]
    negatives: tuple[Negative, ...]
    text: str


def join(
    clip_id: str,
    annotation_index: int,
    events: Sequence[tuple[int, str, tuple[Role, ...]]],
    *,
    template: Template,
    counter: TokenCounter,
    temporal: int,
    seed: int,
) -> JoinedText:
    """Return the joined text of a clip's events, each given as index, verb and roles.

    Raises:
        Problem: The verbs alone are over the context.
    """
    shortened = _Shortener(events, template, counter)
    where = f"clip {clip_id}, annotation {annotation_index}"
    shortened.shorten(where)
    told = tuple(JoinedEvent(index, tuple(roles), verb) for index, verb, roles in shortened.events)
    text = shortened.text(range(len(told)))
    random = Draws(f"{seed}\0{clip_id}\0{annotation_index}\0{TEMPORAL}".encode())
    negatives = tuple(islice(_reordered(shortened, random), temporal)) if temporal else ()
    return JoinedText(annotation_index, clip_id, told, shortened.lost, negatives, " ".join(text))


def write_joined(path: Path, texts: Sequence[JoinedText], header: dict[str, Any], *, temporal: int) -> None:
    """Write a file of joined texts, whole or not at all; ``temporal`` negatives of each were asked for."""
    made = sum(len(text.negatives) for text in texts)
    lost: Counter[str] = Counter()
    for text in texts:
        lost.update(text.lost_roles)
    counts = {
        "texts": len(texts),
        "negatives": {TEMPORAL: made},
        "negatives_missing": {TEMPORAL: temporal * len(texts) - made},
        "roles_lost": dict(lost),
    }
    first = {"format": FORMAT, "format_version": FORMAT_VERSION, "tool_version": __version__, "counts": counts}
    write_lines(path, [encoded(texts)], lambda: {**header, **first})


class _Shortener:
    def __init__(
        self, events: Sequence[tuple[int, str, tuple[Role, ...]]], template: Template, counter: TokenCounter
    ) -> None:
        self.events = [(index, verb, list(roles)) for index, verb, roles in events]
        self.lost: dict[str, int] = {}
        self.template = template
        self._counter = counter

    def text(self, order: Sequence[int]) -> Pieces:
        """Return the text of the events in an order of their places."""
        clauses = [
            (self.template.clause or self.template.pieces)(verb, roles)
            for _, verb, roles in (self.events[place] for place in order)
        ]
        if self.template.clause is None:
            return [piece for clause in clauses for piece in clause]
        pieces = ["In this video, first", *clauses[0]]
        for clause in clauses[1:]:
            pieces[-1] += ","
            pieces += ["then", *clause]
        pieces[-1] += "."
        return pieces

    def shorten(self, where: str) -> None:
        """Leave out roles until the text fits, then words of the longest agents, then the last agents."""
        for arg in DROP_ORDER:
            for _, _, roles in reversed(self.events):
                for role in reversed([role for role in roles if role.arg == arg]):
                    if self._fits():
                        return
                    roles.remove(role)
                    self.lost[arg] = self.lost.get(arg, 0) + 1
        while not self._fits():
            if not self._cut_longest_agent() and not self._drop_last_agent():
                raise Problem(
                    f"{where}: the verbs of the joined text alone are over the {self._counter.context_length} tokens "
                    "that the model takes",
                    "leave out --joined",
                )

    def _fits(self) -> bool:
        return self._counter.count_pieces(self.text(range(len(self.events)))) <= self._counter.context_length

    def _cut_longest_agent(self) -> bool:
        """Take the last word off the longest agent; return False where all have a single word."""
        agents = [(roles, place) for _, _, roles in self.events for place in range(len(roles))]
        roles, place = max(agents, key=lambda at: len(at[0][at[1]].value.split()), default=([], 0))
        words = roles[place].value.split() if roles else []
        value = clean_value(" ".join(words[:-1]))
        if not value:
            return False
        roles[place] = Role(roles[place].arg, roles[place].name, value)
        return True

    def _drop_last_agent(self) -> bool:
        """Leave out the agent of the last event that has one; the verbs stay."""
        roles = next((roles for _, _, roles in reversed(self.events) if roles), None)
        if roles is None:
            return False
        self.lost[roles.pop().arg] = self.lost.get("Arg0", 0) + 1
        return True


def _reordered(joined: _Shortener, random: Draws) -> Iterator[Negative]:
    """Yield the text with its events in other orders, no two of which say the same."""
    count = len(joined.events)
    said = {joined.template.meaning(joined.text(range(count)))}
    orders = list(islice(permutations(range(count)), _MOST_ORDERS))
    for order in drawn(orders, random):
        pieces = joined.text(order)
        meaning = joined.template.meaning(pieces)
        if meaning not in said:
            said.add(meaning)
            yield Negative(change={"order": list(order)}, kind=TEMPORAL, text=" ".join(pieces))
