"""``tokens.h5``: the contextualizer's tokens of every clip of a run, for tasks that read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.texts import MISSING
from figclip_cli.errors import InputError
from figclip_cli.files import replacing, require_file
from figclip_cli.models.contextualizer import VideoContextualizer

_FORMAT = "figclip-tokens"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class ContextualTokens:
    """Tokens of clips.

    Attributes:
        clip_ids: n clip ids, sorted.
        videos: (n, D) float32, unit length.
        events: (n, P, D) float32, unit length; NaN where an event is missing.
        event_mask: (n, P) bool, true where the event exists.
    """

    clip_ids: tuple[str, ...]
    videos: npt.NDArray[np.float32]
    events: npt.NDArray[np.float32]
    event_mask: npt.NDArray[np.bool_]


@torch.no_grad()
def write_tokens(path: Path, contextualizer: VideoContextualizer, batches: Iterable[tuple[Layout, Tensor]]) -> int:
    """Write the tokens of all clips, whole or not at all; return the number of clips.

    Args:
        batches: Layouts, and the (F, D) raw frame features that belong to them. A clip of two sources is written
            once, as it came first.
    """
    limit = contextualizer.config.max_events
    found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for layout, features in batches:
        there = layout.frame_index != MISSING  # (B, P, T)
        mask = there.any(-1)  # (B, P)
        video, events = contextualizer(features[layout.frame_index.clamp_min(0)], mask, there)
        video, events = F.normalize(video, dim=-1), F.normalize(events, dim=-1)
        events = events.masked_fill(~mask[..., None], float("nan"))
        events = F.pad(events, (0, 0, 0, limit - events.shape[1]), value=float("nan"))  # (B, max P, D)
        mask = F.pad(mask, (0, limit - mask.shape[1]))
        for row, clip_id in enumerate(layout.clip_ids):
            found.setdefault(clip_id, (video[row].cpu(), events[row].cpu(), mask[row].cpu()))
    clip_ids = sorted(found)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = _FORMAT, _FORMAT_VERSION
        file.create_dataset("clip_id", data=clip_ids, dtype=h5py.string_dtype())
        for position, name in enumerate(("videos", "events", "event_mask")):
            file[name] = torch.stack([found[clip_id][position] for clip_id in clip_ids]).numpy()
    return len(clip_ids)


def read_tokens(path: Path) -> ContextualTokens:
    """Read what :func:`write_tokens` wrote.

    Raises:
        InputError: The file is missing, damaged or not a tokens file.
    """
    require_file(path, "tokens file", "make it with figclip adapt --save-tokens")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT or file.attrs.get("format_version") != _FORMAT_VERSION:
                raise InputError(f"{path} is not a tokens file of this version", "make it again with --save-tokens")
            clip_ids = tuple(file["clip_id"].asstr()[:])
            return ContextualTokens(clip_ids, file["videos"][:], file["events"][:], file["event_mask"][:])
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"tokens file {path} is damaged: {error}", "make it again with --save-tokens") from error
