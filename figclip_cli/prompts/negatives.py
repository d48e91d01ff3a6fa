"""The negatives of an event: as many of each kind as asked for, none true, no two the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice

from figclip_cli.errors import UsageError, nearest
from figclip_cli.prompts import kinds
from figclip_cli.prompts.balance import Exchange
from figclip_cli.prompts.candidates import Draws, SenseCatalogue, ValuePool
from figclip_cli.prompts.kinds import Candidate, Positive
from figclip_cli.prompts.store import Negative
from figclip_cli.prompts.templates import Pieces, Template

# More than there are verb senses. A long text whose end is cut off reads the same whatever noun is put there.
_TRIES = 2000


def parse_requests(text: str) -> dict[str, int]:
    """Return what ``verb-role=4,role-noun=2`` asks for.

    Raises:
        UsageError: A part is not KIND=NUMBER, a kind is unknown or comes twice, or a number is below zero.
    """
    requests: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, _, number = (side.strip() for side in part.partition("="))
        if not number.isdecimal():
            raise UsageError(f"negatives: '{part}' is not KIND=NUMBER", "for example verb-role=4,role-noun=2")
        if kind in requests:
            raise UsageError(f"negatives: {kind} comes twice", "name each kind once")
        requests[kind] = int(number)
    return checked_requests(requests)


def checked_requests(requests: Mapping[str, int]) -> dict[str, int]:
    """Return the requests in the order of kinds.

    Raises:
        UsageError: A kind is unknown or a number is below zero.
    """
    for kind, number in requests.items():
        if kind not in kinds.REQUESTS:
            raise UsageError(f"negatives: no kind '{kind}'", nearest(kind, kinds.REQUESTS))
        if number < 0:
            raise UsageError(f"negatives: {kind}={number} is below zero", "0 makes none")
    return {kind: requests[kind] for kind in kinds.REQUESTS if requests.get(kind)}


class NegativeMaker:
    """Makes the negatives of one event after the other.

    Args:
        senses: Other verbs.
        values: Other values.
        template: Makes the texts.
        meaning: What the model sees of a text; None for a text that the rule for long texts refuses.
        seed: With an event's place, decides every random choice.
        exchange: Decides verbs and values instead, so that they come as often as in prompts.
    """

    def __init__(
        self,
        senses: SenseCatalogue,
        values: ValuePool,
        *,
        template: Template,
        meaning: Callable[[Pieces], str | None],
        seed: int,
        exchange: Exchange | None = None,
    ) -> None:
        self._senses = senses
        self._values = values
        self._template = template
        self._meaning = meaning
        self._seed = seed
        self._exchange = exchange

    def make(self, positive: Positive, requests: Mapping[str, int]) -> tuple[Negative, ...]:
        """Return up to as many negatives as asked for, in the order of kinds.

        None says what a prompt of the clip or another negative of the event says; a prompt of another event of the
        same video (``same-video``) is the exception. Where too few exist, fewer are returned.
        """
        said = set(positive.said.values())
        made: list[Negative] = []
        for request, count in requests.items():
            if request == kinds.SAME_VIDEO:
                said = (said - set(positive.said.values())) | positive.said_of_event
            made += self._take(count, self._candidates(request, positive), positive, said)
        if kinds.ROLE_NOUN in requests:
            made.sort(key=lambda negative: kinds.KINDS.index(negative.kind))
        return tuple(made)

    def _take(self, count: int, candidates: Iterable[Candidate], positive: Positive, said: set[str]) -> list[Negative]:
        """Return the first ``count`` candidates that say something new."""
        taken: list[Negative] = []
        for candidate in islice(candidates, _TRIES):
            pieces = self._pieces(candidate, positive)
            meaning = self._meaning(pieces)
            if meaning is not None and meaning not in said:
                said.add(meaning)
                taken.append(Negative(candidate.change, candidate.kind, " ".join(pieces)))
                if len(taken) == count:
                    break
        return taken

    def _pieces(self, candidate: Candidate, positive: Positive) -> Pieces:
        if candidate.pieces is not None:
            return candidate.pieces
        if self._template.edit is not None:
            return self._template.edit(positive.pieces, candidate.verb, candidate.edits)
        roles = [candidate.edits.get(place, role) for place, role in enumerate(positive.roles)]
        return self._template.pieces(candidate.verb, roles)

    def _candidates(self, request: str, positive: Positive) -> Iterator[Candidate]:
        if request == kinds.ROLE_NOUN:
            replacing = self._candidates(kinds.ROLE_NOUN_REPLACE, positive)
            return chain(kinds.swaps(positive), replacing)
        if self._exchange and self._exchange.decides(request):
            return self._exchange.candidates(request, positive)
        if request == kinds.ROLE_NOUN_SWAP:
            return kinds.swaps(positive)
        if request == kinds.ATTRIBUTE_SWAP:
            return kinds.attribute_swaps(positive)
        random = self._draws(positive, request)
        if request == kinds.VERB_ROLE:
            return kinds.verb_roles(positive, self._senses, random)
        if request == kinds.SAME_VIDEO:
            return kinds.same_video(positive, random)
        if request == kinds.ROLE_NOUN_REPLACE:
            return kinds.replacements(positive, self._values, random)
        return kinds.modifier_replacements(positive, request, self._values, random)

    def _draws(self, positive: Positive, kind: str) -> Draws:
        clip_id, annotation_index, event_index = positive.place
        return Draws(f"{self._seed}\0{clip_id}\0{annotation_index}\0{event_index}\0{kind}".encode())
