"""The video contextualizer: a transformer over video, event and frame tokens (FiGCLIP, section 3.2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

_HEAD_WIDTH = 64
_INIT_STD = 0.02
_VIDEO, _EVENT, _FRAME = 0, 1, 2


@dataclass(frozen=True)
class ContextualizerConfig:
    """Sizes of a :class:`VideoContextualizer`.

    Attributes:
        width: D, the embedding width of the CLIP model.
        layers: Number of transformer layers; 6 in the paper.
        max_events: Largest number P of events a clip may have.
        max_frames_per_event: Largest number T of frames an event may have.
    """

    width: int
    layers: int = 6
    max_events: int = 5
    max_frames_per_event: int = 4

    def as_dict(self) -> dict[str, int]:
        """Return the sizes as plain JSON values."""
        return asdict(self)


class VideoContextualizer(nn.Module):
    """Turn the frame features of a clip into contextual event tokens and one video token.

    The sequence is ``[video, event_1, its T frames, ..., event_P, its T frames]``. Each token is the sum of its
    content (a learnable token, or a frame feature after a LayerNorm) and learnable embeddings of its type, its
    event's position and its frame's position.
    """

    def __init__(self, config: ContextualizerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.input_norm = nn.LayerNorm(width)
        self.video_token = nn.Parameter(torch.zeros(width))
        self.event_token = nn.Parameter(torch.zeros(width))
        self.type_embedding = nn.Parameter(torch.zeros(3, width))
        self.event_position_embedding = nn.Parameter(torch.zeros(config.max_events, width))
        self.frame_position_embedding = nn.Parameter(torch.zeros(config.max_frames_per_event, width))
        layer = nn.TransformerEncoderLayer(
            d_model=width,
            nhead=_heads(width),
            dim_feedforward=4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        for block in self.encoder.layers:
            block.self_attn.in_proj_bias.register_hook(_without_key_bias)
        for name, parameter in self.named_parameters():
            if "token" in name or "embedding" in name:
                nn.init.normal_(parameter, std=_INIT_STD)

    def forward(
        self, frames: Tensor, event_mask: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Contextualize a batch of clips.

        Args:
            frames: (B, P, T, D) frame features.
            event_mask: (B, P) bool, true where the event exists; missing events are not attended to.
            frame_mask: (B, P, T) bool, true where the frame exists; missing frames are not attended to.

        Returns:
            Video tokens (B, D) and event tokens (B, P, D); the tokens of missing events mean nothing.

        Raises:
            ValueError: More events or frames than the configuration allows.
        """
        batch, events, frames_per_event, width = frames.shape
        self._check_size(events, frames_per_event)
        event_positions = self.event_position_embedding[:events]  # (P, D)
        video = (self.video_token + self.type_embedding[_VIDEO]).expand(batch, 1, width)  # (B, 1, D)
        event = self.event_token + self.type_embedding[_EVENT] + event_positions  # (P, D)
        event = event[None, :, None, :].expand(batch, events, 1, width)  # (B, P, 1, D)
        frame = (
            self.input_norm(frames)
            + self.type_embedding[_FRAME]
            + event_positions[:, None, :]
            + self.frame_position_embedding[:frames_per_event]
        )  # (B, P, T, D)
        groups = torch.cat([event, frame], dim=2)  # (B, P, 1 + T, D)
        sequence = torch.cat([video, groups.flatten(1, 2)], dim=1)  # (B, 1 + P (1 + T), D)
        padding = _padding(event_mask, frame_mask, frames.shape[:3])
        encoded: Tensor = self.encoder(sequence, src_key_padding_mask=padding)
        event_tokens = encoded[:, 1:].unflatten(1, (events, 1 + frames_per_event))[:, :, 0]  # (B, P, D)
        return encoded[:, 0], event_tokens

    def _check_size(self, events: int, frames_per_event: int) -> None:
        if events > self.config.max_events or frames_per_event > self.config.max_frames_per_event:
            raise ValueError(
                f"clips of {events} x {frames_per_event} frames; the contextualizer was built for at most "
                f"{self.config.max_events} x {self.config.max_frames_per_event}"
            )


def _without_key_bias(gradient: Tensor) -> Tensor:
    """Return the gradient of the q, k and v biases with that of k, (D,) of (3D,), set to its true value, zero.

    A bias of the keys shifts all scores of a query alike, which softmax does not see. What autograd finds is rounding
    noise, and Adam, which divides by its size, would turn it into steps that differ from machine to machine.
    """
    q, k, v = gradient.chunk(3)
    return torch.cat([q, torch.zeros_like(k), v])


def _padding(event_mask: Tensor | None, frame_mask: Tensor | None, shape: torch.Size) -> Tensor | None:
    """Return (B, 1 + P (1 + T)) bool, true where a token must not be attended to; the video token always is."""
    known = event_mask if event_mask is not None else frame_mask
    if known is None:
        return None
    events = event_mask if event_mask is not None else known.new_ones(shape[:2])  # (B, P)
    frames = frame_mask if frame_mask is not None else known.new_ones(shape)  # (B, P, T)
    there = torch.cat([events[..., None], frames & events[..., None]], dim=-1).flatten(1)  # (B, P (1 + T))
    return torch.cat([torch.zeros_like(there[:, :1]), ~there], dim=1)


def _heads(width: int) -> int:
    """Heads of width 64 where that divides D, else the most heads of at least 8 that do, else one."""
    if width % _HEAD_WIDTH == 0 and width >= 4 * _HEAD_WIDTH:
        return width // _HEAD_WIDTH
    return next((heads for heads in (8, 4, 2) if width % heads == 0 and width // heads >= 8), 1)
