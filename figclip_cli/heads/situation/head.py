"""The network: a small transformer over a clip's tokens, and what reads verbs, roles and relations off it.

After VideoWhisperer (arXiv 2210.10828): contextual event tokens, a verb for each, and a decoder that writes the noun
phrase of one role at a time. Features are frozen; relations and the naming of roles are added here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, RELATED_EVENTS, RELATIONS, ROLES
from figclip_cli.heads.caption_decoder import CaptionDecoder, DecoderConfig
from figclip_cli.heads.situation.options import PARTS

THIRD = 2
RELATED = tuple(EVENTS.index(event) for event in RELATED_EVENTS)
_PARTICIPANTS = (ROLES.index("Arg0"), ROLES.index("Arg1"))
_PARTICIPANT_WIDTH = 32
_INIT_STD = 0.02
_VIDEO, _EVENT, _FRAME = 0, 1, 2


@dataclass(frozen=True)
class HeadSizes:
    """Everything that decides the shapes of a :class:`SituationHead`.

    Attributes:
        feature_width: D of the features.
        frames_per_event: T.
        senses: S verb senses.
        vocabulary_size: Tokens of phrases.
        width: W of the head's vectors.
        event_layers: Layers over each event's own tokens.
        context_layers: Layers over the events of a clip.
        decoder_layers: Layers that write phrases.
        attention_heads: Of each layer.
        max_tokens: Longest phrase.
        dropout: Share of activations that are left out in training.
        parts: What there is.
    """

    feature_width: int
    frames_per_event: int
    senses: int
    vocabulary_size: int
    width: int = 256
    event_layers: int = 1
    context_layers: int = 1
    decoder_layers: int = 3
    attention_heads: int = 4
    max_tokens: int = 15
    dropout: float = 0.1
    parts: tuple[str, ...] = field(default=PARTS)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "parts": list(self.parts)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HeadSizes:
        """Return the sizes that :meth:`as_dict` gave."""
        return cls(**{**values, "parts": tuple(values["parts"])})


class Encoded(NamedTuple):
    """A clip's tokens, each of which has seen the others.

    Attributes:
        videos: (B, W).
        events: (B, 5, W).
        frames: (B, 5, T, W).
    """

    videos: Tensor
    events: Tensor
    frames: Tensor


class SituationHead(nn.Module):
    """Verbs, roles, phrases and relations of the five events of clips.

    Args:
        sizes: Shapes.
        role_log_odds: (S + 1, roles), what is known of the roles of each sense, the last of an unknown one; role
            logits are these plus what the head says.
    """

    role_log_odds: Tensor

    def __init__(self, sizes: HeadSizes, role_log_odds: Tensor) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.input_norms = nn.ModuleList(nn.LayerNorm(sizes.feature_width) for _ in range(3))
        self.inputs = nn.ModuleList(nn.Linear(sizes.feature_width, width) for _ in range(3))
        self.change_norm = nn.LayerNorm(sizes.feature_width)
        self.change = nn.Linear(sizes.feature_width, width)
        self.event_position = _embedding(len(EVENTS), width)
        self.frame_position = _embedding(sizes.frames_per_event, width)
        self.within_event = _transformer(sizes, sizes.event_layers)
        self.context = _transformer(sizes, sizes.context_layers)
        self.token_norm, self.frame_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.sense = nn.Embedding(sizes.senses + 1, width)
        nn.init.normal_(self.sense.weight, std=_INIT_STD)
        if "verbs" in sizes.parts:
            self.verbs = _perceptron(width, sizes.senses, sizes.dropout)
        if "roles" in sizes.parts:
            self._add_roles(role_log_odds)
        if {"roles", "relations"} & set(sizes.parts):
            self.role = nn.Embedding(len(ROLES), width)
            nn.init.normal_(self.role.weight, std=_INIT_STD)
            self.query = _perceptron(3 * width, width, 0.0, hidden=width)  # not linear: roles differ in what they read
        if "relations" in sizes.parts:
            self.relation_event = _embedding(len(RELATED), width)
            self.participant = nn.Linear(width, _PARTICIPANT_WIDTH)
            inputs = 4 * width + len(_PARTICIPANTS) ** 2 * _PARTICIPANT_WIDTH
            self.relations = _perceptron(inputs, len(RELATIONS), sizes.dropout, hidden=width)

    def _add_roles(self, role_log_odds: Tensor) -> None:
        sizes = self.sizes
        self.register_buffer("role_log_odds", role_log_odds.clone())
        self.role_names = _perceptron(2 * sizes.width, len(ROLES), sizes.dropout)
        last = self.role_names[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # at first the senses alone decide
        self.decoder = CaptionDecoder(
            DecoderConfig(
                sizes.vocabulary_size,
                sizes.width,
                sizes.decoder_layers,
                sizes.attention_heads,
                sizes.max_tokens,
                sizes.dropout,
            )
        )

    def encode(self, videos: Tensor, events: Tensor, frames: Tensor) -> Encoded:
        """Let the tokens of a clip see each other.

        Args:
            videos: (B, D).
            events: (B, 5, D).
            frames: (B, 5, T, D); their lengths do not matter.
        """
        frame = self._input(_FRAME, frames) + self.change(self.change_norm(_changes(frames))) + self.frame_position
        tokens = torch.cat([self._input(_EVENT, events)[:, :, None], frame], dim=2)  # (B, 5, 1 + T, W)
        tokens = self.within_event(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        event = tokens[:, :, 0] + self.event_position  # (B, 5, W)
        clip = self.context(torch.cat([self._input(_VIDEO, videos)[:, None], event], dim=1))  # (B, 6, W)
        clip = self.token_norm(clip)
        return Encoded(clip[:, 0], clip[:, 1:], self.frame_norm(tokens[:, :, 1:]))

    def _input(self, kind: int, features: Tensor) -> Tensor:
        projected: Tensor = self.inputs[kind](self.input_norms[kind](features))
        return projected

    def verb_logits(self, encoded: Encoded) -> Tensor:
        """Return (B, 5, S)."""
        logits: Tensor = self.verbs(encoded.events)
        return logits

    def role_logits(self, events: Tensor, senses: Tensor) -> Tensor:
        """Return (n, roles): whether events (n, W) of senses (n,) int64 have each role."""
        correction: Tensor = self.role_names(torch.cat([events, self.sense(senses)], dim=-1))
        return self.role_log_odds[senses] + correction

    def memory(self, encoded: Encoded, clips: Tensor, places: Tensor, senses: Tensor, roles: Tensor) -> Tensor:
        """Return what the decoder reads about n roles: (n, 4 + T, W).

        Args:
            clips: (n,) int64, rows of ``encoded``.
            places: (n,) int64, which of the five events.
            senses: (n,) int64, S where it is unknown.
            roles: (n,) int64, numbers in ``ROLES``.
        """
        sense, role = self.sense(senses), self.role(roles)
        event, frames = encoded.events[clips, places], encoded.frames[clips, places]
        query = self._query(event, sense, role)
        seen = torch.stack([event, encoded.videos[clips]], dim=1)
        # With the role in each of them, the very first attention can already tell what to look for.
        seen = torch.cat([seen, frames], dim=1) + role[:, None]
        return torch.cat([query[:, None], (sense + role)[:, None], seen], dim=1)

    def relation_logits(
        self, encoded: Encoded, clips: Tensor, related: Tensor, senses: Tensor, third_senses: Tensor
    ) -> Tensor:
        """Return (n, 4): how events relate to the third one.

        Args:
            clips: (n,) int64, rows of ``encoded``.
            related: (n,) int64, 0 to 3 for the first, second, fourth and fifth event.
            senses: (n,) int64, of that event.
            third_senses: (n,) int64, of the third one.
        """
        places = torch.tensor(RELATED, device=clips.device)[related]
        event = encoded.events[clips, places]
        third = encoded.events[clips, THIRD]
        sense, third_sense = self.sense(senses), self.sense(third_senses)
        own, others = self._participants(event, sense), self._participants(third, third_sense)
        alike = [one * other for one in own for other in others]
        both = [event + self.relation_event[related], third, sense, third_sense, *alike]
        logits: Tensor = self.relations(torch.cat(both, dim=-1))
        return logits

    def _query(self, event: Tensor, sense: Tensor, role: Tensor) -> Tensor:
        query: Tensor = self.query(torch.cat([event, sense, role], dim=-1))
        return query

    def _participants(self, event: Tensor, sense: Tensor) -> list[Tensor]:
        """Return who or what fills Arg0 and Arg1 of events (n, W), as vectors (n, 32) of length sqrt(32) each.

        Products of two of them tell whether both are the same.
        """
        roles = [self.role.weight[number].expand_as(event) for number in _PARTICIPANTS]
        fillers = [self.participant(self._query(event, sense, role)) for role in roles]
        return [F.normalize(filler, dim=-1) * _PARTICIPANT_WIDTH**0.5 for filler in fillers]


def _embedding(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, width) * _INIT_STD)


def _perceptron(inputs: int, outputs: int, dropout: float, hidden: int | None = None) -> nn.Sequential:
    hidden = hidden or inputs
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def _changes(frames: Tensor) -> Tensor:
    """Return how each frame (..., T, D) differs from the one before, and the first from the next."""
    if frames.shape[-2] == 1:
        return torch.zeros_like(frames)
    steps = frames.diff(dim=-2)
    return torch.cat([steps[..., :1, :], steps], dim=-2)


def _transformer(sizes: HeadSizes, layers: int) -> nn.Module:
    if not layers:
        return nn.Identity()
    layer = nn.TransformerEncoderLayer(
        d_model=sizes.width,
        nhead=sizes.attention_heads,
        dim_feedforward=4 * sizes.width,
        dropout=sizes.dropout,
        activation=F.gelu,
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def parameter_counts(head: SituationHead) -> dict[str, int]:
    """Return the trained parameters of each part of a head."""
    counts: dict[str, int] = {}
    for name, parameter in head.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def all_there(memory: Tensor) -> Tensor:
    """Return the mask of a memory of which nothing is missing."""
    return torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)


def related_rows(count: int) -> tuple[Tensor, Tensor]:
    """Return rows of clips and numbers of related events, for all relations of ``count`` clips."""
    clips = torch.arange(count).repeat_interleave(len(RELATED))
    return clips, torch.arange(len(RELATED)).repeat(count)
