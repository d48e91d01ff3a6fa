"""Everything that decides the shapes of a head for dense captioning. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from figclip_cli.heads.dense.options import GIVEN, DenseOptions


@dataclass(frozen=True)
class DenseSizes:
    """Shapes; what is not explained here is as in :class:`.DenseOptions`.

    Attributes:
        feature_width: D of the frames' features.
        vocabulary_size: Tokens of captions.
        max_events: Most events that are counted.
        dropout: Share of activations that are left out in training.
    """

    feature_width: int
    vocabulary_size: int
    max_events: int
    mode: str
    positions: int
    queries: int
    width: int
    encoder_layers: int
    decoder_layers: int
    caption_layers: int
    attention_heads: int
    caption_points: int
    max_tokens: int
    dropout: float

    @property
    def is_given(self) -> bool:
        """Whether segments are given instead of found."""
        return self.mode == GIVEN

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def of(
        cls, options: DenseOptions, *, feature_width: int, vocabulary_size: int, max_events: int, dropout: float
    ) -> DenseSizes:
        """Return the sizes that options ask for."""
        return cls(
            feature_width,
            vocabulary_size,
            max_events,
            options.mode,
            options.positions,
            options.queries,
            options.width,
            options.encoder_layers,
            options.decoder_layers,
            options.caption_layers,
            options.attention_heads,
            options.caption_points,
            options.max_tokens,
            dropout,
        )
