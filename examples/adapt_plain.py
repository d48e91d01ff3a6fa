"""The plain training loop that adapt is measured against, and the other ways to compute an adapted projection."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loralib
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from figclip_cli.frames import FramesReader
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import LoraConfig, QkvLora, attach_lora, lora_layers
from figclip_cli.prompts import PromptEvent, read_prompts

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class StoredClips(Dataset[Any]):
    """Frames of a clip as normalised floats, as a plain data set hands them over."""

    def __init__(self, frames: FramesReader, events: dict[str, list[PromptEvent]]) -> None:
        self._frames, self._events, self._clip_ids = frames, events, sorted(events)

    def __len__(self) -> int:
        return len(self._clip_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, list[str], list[list[str]]]:
        clip_id = self._clip_ids[index]
        pixels = torch.from_numpy(self._frames.read(clip_id)).permute(0, 1, 4, 2, 3).float() / 255
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        events = self._events[clip_id]
        return (pixels - mean) / std, [e.text for e in events], [[n.text for n in e.negatives] for e in events]


class PlainLoop:
    """open_clip's model, LoRA by loralib or PEFT, texts encoded in every step, four eager losses."""

    def __init__(self, folder: Path, model: Any, kind: str, arguments: argparse.Namespace) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._device, self._precision = arguments.device, arguments.precision
        self._tokenizer = SimpleTokenizer(context_length=77)
        self._text_model = model
        model.requires_grad_(False)
        if kind == "loralib":
            attach_lora(model, LoraConfig(arguments.rank, float(arguments.rank)), seed=0, image_size=arguments.size)
            for _, layer in lora_layers(model):
                layer.forward = lambda x, layer=layer: loralib.MergedLinear.forward(layer, x)
        else:
            model.visual = with_peft(model.visual, arguments.rank)
        self._model = model.to(self._device)
        self._contextualizer = VideoContextualizer(ContextualizerConfig(width=model.visual.proj.shape[1]))
        self._contextualizer.to(self._device)
        parameters = [p for m in (model, self._contextualizer) for p in m.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(parameters, lr=1e-6)
        self._batches = self._endless(folder, arguments)

    def _endless(self, folder: Path, arguments: argparse.Namespace) -> Iterator[Any]:
        events: dict[str, list[PromptEvent]] = {}
        for event in read_prompts(folder / "prompts.jsonl").events:
            events.setdefault(event.clip_id, []).append(event)
        data = StoredClips(FramesReader(folder / "frames.h5"), events)
        loader = DataLoader(
            data,
            batch_size=arguments.clips,
            shuffle=True,
            drop_last=True,
            num_workers=arguments.workers,
            collate_fn=list,
            persistent_workers=arguments.workers > 0,
        )
        while True:
            yield from loader

    def step(self) -> float:
        """Do one whole step; return the loss."""
        clips = next(self._batches)
        pixels = torch.stack([clip[0] for clip in clips]).to(self._device)  # (B, P, T, 3, S, S)
        positives = [text for clip in clips for text in clip[1]]
        negatives = [texts for clip in clips for texts in clip[2]]
        with torch.autocast(self._device, torch.bfloat16, enabled=self._precision == "bf16"):
            features = self._model.encode_image(pixels.flatten(0, 2)).float().unflatten(0, pixels.shape[:3])
            with torch.no_grad():
                texts = self._encode([*positives, *(text for row in negatives for text in row)]).float()
        loss = self._loss(features, texts, len(positives), [len(row) for row in negatives])
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _encode(self, texts: list[str]) -> Tensor:
        return F.normalize(self._model.encode_text(self._tokenizer(texts).to(self._device)), dim=-1)

    def _loss(self, features: Tensor, texts: Tensor, rows: int, counts: list[int]) -> Tensor:
        clips, events = features.shape[:2]
        positive = texts[:rows]  # (R, D)
        width = max(counts)
        private = positive.new_zeros(rows, width, positive.shape[1])
        mask = torch.zeros(rows, width, dtype=torch.bool, device=positive.device)
        for row, own in enumerate(texts[rows:].split(counts)):
            private[row, : len(own)], mask[row, : len(own)] = own, True
        of_video = F.normalize(positive.unflatten(0, (clips, events)).mean(1), dim=-1)
        video_token, event_tokens = self._contextualizer(features)
        scale = self._model.logit_scale.exp()
        return (
            info_nce(features.mean(2).flatten(0, 1), positive, scale, private, mask)
            + info_nce(event_tokens.flatten(0, 1), positive, scale, private, mask)
            + 0.25 * info_nce(features.mean((1, 2)), of_video, scale)
            + 0.25 * info_nce(video_token, of_video, scale)
        )


def info_nce(
    rows: Tensor, texts: Tensor, scale: Tensor, private: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Return the plain InfoNCE loss of (R, D) rows and texts, with (R, N, D) negatives of each row."""
    rows = F.normalize(rows, dim=-1)
    logits = scale * rows @ texts.T
    target = torch.arange(len(rows), device=rows.device)
    to_text = logits
    if private is not None and mask is not None:
        extra = scale * torch.einsum("rd,rnd->rn", rows, private)
        to_text = torch.cat([logits, extra.masked_fill(~mask, float("-inf"))], dim=1)
    return 0.5 * (F.cross_entropy(to_text, target) + F.cross_entropy(logits.T, target))


def with_peft(visual: nn.Module, rank: int) -> nn.Module:
    """Return the tower with PEFT's LoRA on its attention modules, which adapts their output projection too."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    wrapped = get_peft_model(visual, PeftConfig(r=rank, lora_alpha=rank, target_modules=["attn"]))  # type: ignore[arg-type]
    base: nn.Module = wrapped.base_model.model
    return base


def projections(width: int, rank: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the ways to compute one q, k, v projection, (n, D) to (n, 3D)."""
    torch.manual_seed(0)
    weight, bias = torch.randn(3 * width, width) * 0.02, torch.zeros(3 * width)
    plain = QkvLora(weight, bias, LoraConfig(rank, float(rank)))
    dropping = QkvLora(weight, bias, LoraConfig(rank, float(rank), dropout=1e-9))
    for layer in (plain, dropping):
        nn.init.normal_(layer.lora_A, std=0.02)
        nn.init.normal_(layer.lora_B, std=0.02)
    linear = nn.Linear(width, 3 * width)
    linear.requires_grad_(False)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "frozen": linear,
        "figclip": plain,
        "figclip, low-rank path (as under dropout)": dropping,
        "loralib's forward": lambda x: loralib.MergedLinear.forward(plain, x),
    }
    if has_peft():
        from peft import LoraConfig as PeftConfig
        from peft import get_peft_model

        holder = nn.Sequential()
        holder.add_module("qkv", nn.Linear(width, 3 * width))
        config = PeftConfig(r=rank, lora_alpha=rank, target_modules=["qkv"])
        ways["PEFT (one rank for the three)"] = get_peft_model(holder, config)  # type: ignore[arg-type]
    return ways


def has_peft() -> bool:
    """Return whether PEFT is installed; the extra ``bench`` brings it."""
    return importlib.util.find_spec("peft") is not None
