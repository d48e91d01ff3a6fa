"""What later stages read of a run's ``config.json``, with types: a file that lies is refused in one line."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Module(msgspec.Struct):
    name: str
    kind: str
    parameters: _Count


class _Lora(msgspec.Struct):
    rank: _Count
    alpha: float
    dropout: float
    targets: list[str]
    blocks: str
    towers: str
    modules: list[_Module]


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    pretrained: str | None = None
    activation: str | None = None


class _ModelConfig(msgspec.Struct):
    quick_gelu: bool
    embed_dim: _Count
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


class _Preprocess(msgspec.Struct):
    size: Annotated[list[_Count], msgspec.Meta(min_length=2, max_length=2)]


class _Model(msgspec.Struct):
    name: str
    source: _Source
    sha256: _Hash
    model_cfg: _ModelConfig
    preprocess_cfg: _Preprocess


class _Clips(msgspec.Struct):
    used: _Count
    annotated: Annotated[int, msgspec.Meta(ge=1)]
    excluded: _Count
    validation: _Count
    sha256: str


class _Frames(msgspec.Struct):
    content_sha256: str


class _Prompts(msgspec.Struct):
    sha256: str


class _Data(msgspec.Struct):
    frames: _Frames
    prompts: _Prompts


class _Result(msgspec.Struct):
    epochs: int
    steps: int
    selected: str
    selected_step: int
    best_by: str | None = None
    best_score: float | None = None
    best_step: int | None = None


class RunConfig(msgspec.Struct):
    """The part of a finished run's configuration that is relied on; the rest may be anything."""

    lora: _Lora
    model: _Model
    clips: _Clips
    sources: list[_Data]
    result: _Result
    anchor: dict[str, float]
    seed: int
    epochs: int
    batch_clips: int
    schedule: str
    learning_rate: float
    learn_temperature: bool
    contextualizer: bool
    contextualizer_layers: int
    hard_negatives: bool
    natural_negatives: bool
    clip_event_weight: float
    clip_video_weight: float
    vc_event_weight: float
    vc_video_weight: float
