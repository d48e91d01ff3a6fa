"""What a head is trained for, and how right it is about clips that were held out."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.heads.caption_decoder import caption_loss
from figclip_cli.heads.situation.examples import Rows
from figclip_cli.heads.situation.head import Encoded, SituationHead, all_there

VERBS, PHRASES, ROLE_NAMES, RELATIONS = "verbs", "phrases", "role_names", "relations"


def hidden_senses(senses: Tensor, unknown: int, share: float) -> Tensor:
    """Return senses (n,) int64 of which about a ``share``, drawn by torch's generator, are unknown.

    So the embedding of an unknown sense is trained, and roles do not lean on the verb alone.
    """
    hidden = torch.rand(len(senses)) < share  # drawn on the CPU: the same on every device
    return torch.where(hidden.to(senses.device), unknown, senses)


def verb_loss(head: SituationHead, encoded: Encoded, rows: Rows) -> Tensor:
    """Return the mean cross-entropy over events; annotators who disagree share an event."""
    events = rows.events
    scores = head.verb_logits(encoded).log_softmax(dim=-1)[events.clip, events.place]  # (E, S)
    known = events.sense < head.sizes.senses
    picked = scores.gather(1, events.sense.clamp_max(head.sizes.senses - 1)[:, None])[:, 0]
    return -(picked * events.share * known).sum() / (events.share * known).sum().clamp_min(1e-6)


def role_name_loss(head: SituationHead, encoded: Encoded, rows: Rows, senses: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the events of all annotators and all roles."""
    events = rows.events
    logits = head.role_logits(encoded.events[events.clip, events.place], senses)
    return F.binary_cross_entropy_with_logits(logits, events.roles)


def phrase_logits(head: SituationHead, encoded: Encoded, rows: Rows, senses: Tensor) -> Tensor:
    """Return logits (N, L, V) of the tokens of all phrases but the first, each given those before it."""
    events, phrases = rows.events, rows.phrases
    at = phrases.event
    memory = head.memory(encoded, events.clip[at], events.place[at], senses[at], phrases.role)
    logits: Tensor = head.decoder(memory, all_there(memory), phrases.tokens[:, :-1])
    return logits


def relation_logits(head: SituationHead, encoded: Encoded, rows: Rows, senses: Tensor) -> Tensor:
    """Return logits (R, 4) of all relations."""
    relations = rows.relations
    clips = rows.events.clip[relations.event]
    return head.relation_logits(encoded, clips, relations.related, senses[relations.event], senses[relations.third])


def losses(
    head: SituationHead, encoded: Encoded, rows: Rows, *, unknown_verbs: float, pad_id: int
) -> dict[str, Tensor]:
    """Return the loss of each part that the head has."""
    found: dict[str, Tensor] = {}
    parts = head.sizes.parts
    if "verbs" in parts:
        found[VERBS] = verb_loss(head, encoded, rows)
    senses = hidden_senses(rows.events.sense, head.sizes.senses, unknown_verbs)
    if "roles" in parts:
        found[ROLE_NAMES] = role_name_loss(head, encoded, rows, senses)
        if len(rows.phrases.role):
            targets = rows.phrases.tokens[:, 1:]
            found[PHRASES] = caption_loss(phrase_logits(head, encoded, rows, senses), targets, pad_id)
    if "relations" in parts and len(rows.relations.label):
        found[RELATIONS] = F.cross_entropy(relation_logits(head, encoded, rows, senses), rows.relations.label)
    return found


class Counts(NamedTuple):
    """How many of what is held out are right, of how many."""

    right: float
    of: float

    def plus(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(self.right + other.right, self.of + other.of)

    @property
    def share(self) -> float:
        """Share that is right; 0 of nothing."""
        return self.right / self.of if self.of else 0.0


def accuracies(head: SituationHead, encoded: Encoded, rows: Rows, pad_id: int) -> dict[str, Counts]:
    """Return what is right of each part, with the annotated verbs given.

    Verbs: events whose likeliest sense one of the annotators named. Phrases: tokens, each given the annotated ones
    before it. Role names: roles of events. Relations: labels.
    """
    found: dict[str, Counts] = {}
    parts, senses = head.sizes.parts, rows.events.sense
    if "verbs" in parts:
        found[VERBS] = _verbs_right(head.verb_logits(encoded), rows)
    if "roles" in parts:
        events = encoded.events[rows.events.clip, rows.events.place]
        told = (head.role_logits(events, senses) > 0) == (rows.events.roles > 0)
        found[ROLE_NAMES] = Counts(float(told.sum()), told.numel())
        targets = rows.phrases.tokens[:, 1:]
        there = targets != pad_id
        if len(targets):
            right = (phrase_logits(head, encoded, rows, senses).argmax(-1) == targets) & there
            found[PHRASES] = Counts(float(right.sum()), float(there.sum()))
    if "relations" in parts and len(rows.relations.label):
        right = relation_logits(head, encoded, rows, senses).argmax(-1) == rows.relations.label
        found[RELATIONS] = Counts(float(right.sum()), len(right))
    return found


def _verbs_right(logits: Tensor, rows: Rows) -> Counts:
    best = logits.argmax(-1)  # (B, 5)
    named = torch.zeros_like(best, dtype=torch.bool)
    events = rows.events
    agreed = events.sense == best[events.clip, events.place]
    named[events.clip[agreed], events.place[agreed]] = True
    return Counts(float(named.sum()), named.numel())
