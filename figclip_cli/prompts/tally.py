"""What is counted while prompts are made; the header and the tables show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from figclip_cli.prompts.kinds import KINDS, kinds_of
from figclip_cli.prompts.overflow import DROP_ORDER, Fitted, OnOverflow
from figclip_cli.prompts.roles import GENERIC_NAMES, MODIFIERS, SCENE
from figclip_cli.prompts.store import PromptEvent
from figclip_cli.reporting import Reporter

_ARGS = (*GENERIC_NAMES, *MODIFIERS, SCENE)
_OVERFLOW = ("events", "truncated", "agent_words_cut", "negatives_refused", "negatives_truncated")


@dataclass
class Tally:
    """Counts of what was made; several can be merged."""

    on_overflow: OnOverflow
    requests: Mapping[str, int]
    events: int = 0
    senses: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    generic: Counter[str] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def add(self, events: Sequence[PromptEvent]) -> None:
        """Count finished events."""
        self.events += len(events)
        self.senses.update([event.verb_sense for event in events])
        self.roles.update([role.arg for event in events for role in event.roles])
        self.lost.update([role.arg for event in events for role in event.lost_roles])
        self.negatives.update([negative.kind for event in events for negative in event.negatives])
        wanted = sum(self.requests.values())
        for event in events:
            if len(event.negatives) < wanted:
                self._count_missing(Counter([negative.kind for negative in event.negatives]))

    def add_prompt(self, fitted: Fitted) -> None:
        """Count the length of a prompt."""
        self.tokens[fitted.tokens] += 1
        if fitted.overlong:
            self.overflow["events"] += 1
            self.overflow["agent_words_cut"] += fitted.words_cut
            self.overflow["truncated"] += self.on_overflow == "truncate"

    def _count_missing(self, kinds: Counter[str]) -> None:
        """Count what was asked for and not made; ``role-noun`` is served after the kinds it is made of."""
        left = Counter(kinds)
        for request, wanted in sorted(self.requests.items(), key=lambda item: len(tuple(kinds_of(item[0])))):
            for kind in kinds_of(request):
                used = min(wanted, left[kind])
                left[kind] -= used
                wanted -= used
            self.missing[request] += wanted

    def merge(self, other: Tally) -> None:
        """Add the counts of another."""
        self.events += other.events
        for each in fields(self):
            mine = getattr(self, each.name)
            if isinstance(mine, Counter):
                mine.update(getattr(other, each.name))

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as the header has them."""
        return {
            "events": self.events,
            "verbs": len(self.senses),
            "roles": {arg: self.roles[arg] for arg in _ARGS},
            "generic_roles": {arg: self.generic[arg] for arg in GENERIC_NAMES},
            "roles_lost": {arg: self.lost[arg] for arg in DROP_ORDER},
            "negatives": {kind: self.negatives[kind] for kind in KINDS if self._asked_for(kind)},
            "negatives_missing": {request: self.missing[request] for request in self.requests},
            "overflow": {name: self.overflow[name] for name in _OVERFLOW},
            "tokens": self._lengths(),
        }

    def _asked_for(self, kind: str) -> bool:
        return any(kind in kinds_of(request) for request in self.requests)

    def _lengths(self) -> dict[str, int]:
        """Return median, 95th percentile and maximum of the prompts' tokens, before any was shortened."""
        if not self.events:
            return {"median": 0, "p95": 0, "max": 0}
        ordered = sorted(self.tokens.items())
        return {
            "median": _quantile(ordered, self.events, 50),
            "p95": _quantile(ordered, self.events, 95),
            "max": ordered[-1][0],
        }

    def remark(self, reporter: Reporter) -> None:
        """Warn of what the model will not see."""
        if truncated := self.overflow["truncated"]:
            reporter.warn(f"{truncated} prompts are over the context: the model will not see their end")
        if any(self.lost.values()):
            lost = ", ".join(f"{arg} {self.lost[arg]}" for arg in DROP_ORDER if self.lost[arg])
            reporter.warn(f"roles left out of long prompts: {lost}")
        if cut := self.overflow["agent_words_cut"]:
            reporter.warn(f"{cut} prompts were still too long: words of their agent were cut")


def _quantile(ordered: list[tuple[int, int]], total: int, percent: int) -> int:
    """Return the smallest value that so many percent of all do not exceed."""
    seen = 0
    for value, count in ordered:
        seen += count
        if 100 * seen >= percent * total:
            return value
    return ordered[-1][0]
