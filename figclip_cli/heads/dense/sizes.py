"""Everything that decides the shapes of a head for dense captioning. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from figclip_cli.heads.dense.options import GIVEN, MODES, DenseOptions


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
    def from_dict(cls, values: Any) -> DenseSizes:
        """Return the sizes that :meth:`as_dict` wrote.

        Raises:
            ValueError: Names what is missing or wrong.
        """
        if not isinstance(values, dict):
            raise ValueError("they are no object")
        for name in (item.name for item in fields(cls)):
            if not _SOUND.get(name, _is_count)(values.get(name)):
                raise ValueError(f"'{name}' is missing or damaged")
        made = cls(**{item.name: values[item.name] for item in fields(cls)})
        if made.width % (2 * made.attention_heads):
            raise ValueError("'width' cannot be divided among the attention heads")
        return made

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


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


_SOUND: dict[str, Callable[[Any], bool]] = {
    "mode": lambda value: value in MODES,
    "dropout": lambda value: type(value) in (int, float) and 0 <= value < 1,
}
