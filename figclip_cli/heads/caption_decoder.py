"""A small transformer decoder that writes a caption about a few vectors, with a key-value cache for writing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INIT_STD = 0.02


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a :class:`CaptionDecoder`.

    Attributes:
        vocabulary_size: Tokens, the special ones included.
        width: Of the vectors it reads and works with.
        layers: Transformer layers; 3 in VideoWhisperer.
        heads: Attention heads.
        max_tokens: Longest caption, without start and end.
        dropout: Share of activations that are left out in training.
    """

    vocabulary_size: int
    width: int = 256
    layers: int = 3
    heads: int = 4
    max_tokens: int = 15
    dropout: float = 0.1

    def as_dict(self) -> dict[str, float]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass
class DecoderState:
    """What has been written so far: keys and values of each layer.

    Attributes:
        written: Tokens so far.
        own: For each layer keys and values (B, heads, written, width / heads) of the tokens.
        memory: For each layer keys and values (B, heads, M, width / heads) of the memory, the same at every step.
        mask: (B, 1, 1, M) bool, true where the memory is there.
    """

    written: int
    own: list[tuple[Tensor, Tensor] | None]
    memory: list[tuple[Tensor, Tensor]]
    mask: Tensor

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` (n,) int64 in this order; a row may be taken several times."""
        self.own = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.own]
        self.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
        self.mask = self.mask[rows]

    def select_own(self, rows: Tensor) -> None:
        """Take over what other rows of the same memory have written: beams of one caption, reordered."""
        self.own = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self.own]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, heads, S, width / heads) of (B, S, width)."""
        keys, values = self.key_value(source).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, queries: Tensor, pair: tuple[Tensor, Tensor], mask: Tensor | None, *, causal: bool) -> Tensor:
        attended = F.scaled_dot_product_attention(
            self._split(self.query(queries)),
            *pair,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.own_norm, self.memory_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.own_attention = _Attention(width, config.heads, dropout)
        self.memory_attention = _Attention(width, config.heads, dropout)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        before: tuple[Tensor, Tensor] | None,
        memory: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (B, L, width), and keys and values of all tokens: those ``before``, then these."""
        normed = self.own_norm(tokens)
        pair = self.own_attention.keys_values(normed)
        if before is not None:
            pair = torch.cat([before[0], pair[0]], dim=2), torch.cat([before[1], pair[1]], dim=2)
        # A single token after others may look at all of them.
        tokens = tokens + self.drop(self.own_attention(normed, pair, None, causal=before is None))
        tokens = tokens + self.drop(self.memory_attention(self.memory_norm(tokens), memory, mask, causal=False))
        return tokens + self.drop(self.feed(self.feed_norm(tokens))), pair


class CaptionDecoder(nn.Module):
    """Writes tokens one after another, each looking at those before and at a memory of vectors.

    Input embeddings and the output share their weights.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.position = nn.Parameter(torch.empty(config.max_tokens + 2, config.width))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=_INIT_STD)
        nn.init.normal_(self.position, std=_INIT_STD)

    def forward(self, memory: Tensor, memory_mask: Tensor, tokens: Tensor) -> Tensor:
        """Score the next token at every place of known captions.

        Args:
            memory: (B, M, width).
            memory_mask: (B, M) bool, true where a vector is there; at least one of each row.
            tokens: (B, L) int64, from the start token on.

        Returns:
            Logits (B, L, vocabulary_size).
        """
        state = self.begin(memory, memory_mask)
        return self._advance(tokens, state)

    def begin(self, memory: Tensor, memory_mask: Tensor) -> DecoderState:
        """Return the state before the first token; what depends on the memory alone is computed here, once."""
        pairs = [layer.memory_attention.keys_values(memory) for layer in self.layers]  # type: ignore[union-attr, operator]
        return DecoderState(0, [None] * len(self.layers), pairs, memory_mask[:, None, None, :])

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Take one more token of each row, (B,) int64; return the logits (B, vocabulary_size) of the next."""
        return self._advance(tokens[:, None], state)[:, -1]

    def _advance(self, tokens: Tensor, state: DecoderState) -> Tensor:
        end = state.written + tokens.shape[1]
        hidden = self.drop(self.embedding(tokens) + self.position[state.written : end])
        for number, layer in enumerate(self.layers):
            hidden, state.own[number] = layer(hidden, state.own[number], state.memory[number], state.mask)
        state.written = end
        return F.linear(self.norm(hidden), self.embedding.weight)


def caption_loss(logits: Tensor, targets: Tensor, pad_id: int) -> Tensor:
    """Return the mean cross-entropy of (B, L, V) logits over the targets (B, L) that are not padding; 0 without any."""
    there = targets != pad_id
    summed = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad_id, reduction="sum")
    return summed / there.sum().clamp_min(1)
