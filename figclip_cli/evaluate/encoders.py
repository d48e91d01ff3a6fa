"""The models of one evaluation, base first and then adapted, each with the protocol that it encodes by."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.curve_scales import scale_text
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.evaluate.visuals import StoredClips, VisualFeatures, visual_features
from figclip_cli.evaluate.visuals.contextual import Contextualizer, contextual_features
from figclip_cli.evaluate.visuals.source import LookSource
from figclip_cli.files import sha256_of_file
from figclip_cli.models.adapted import attach_run
from figclip_cli.models.clip import Clip, autocast
from figclip_cli.models.text_encoding import BATCH, quick_tokenizer
from figclip_cli.models.text_features import TextFeatures, encode_distinct, overlong_texts
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

BASE, ADAPTED = "base", "adapted"
WHOLE = (1.0,)  # scales of an evaluation of the run as it is


@dataclass(frozen=True)
class Encoding:
    """How features are made, beside the model.

    Attributes:
        protocol: Pooling, precision, tokens.
        cache: Folder in whose ``.figclip`` features are kept; None keeps nothing.
        reporter: Where progress goes.
    """

    protocol: Protocol
    cache: Path | None = None
    reporter: Reporter = field(default=SILENT, compare=False)


@dataclass(frozen=True)
class Encoder:
    """One model under test.

    Attributes:
        label: ``base`` or ``adapted``.
        clip: The model.
        about: Name and hashes, for the result.
        seeds: Seeds that its weights depend on.
        scale: How far it goes from the base (0) to the adapted weights (1), in weight space (arXiv 2109.01903).
        contextualizer: Reads the frames of clips; None pools them as the protocol says.
    """

    label: str
    clip: Clip
    encoding: Encoding
    about: dict[str, Any]
    seeds: dict[str, int]
    scale: float = 0.0
    contextualizer: Contextualizer | None = None

    @property
    def said(self) -> str:
        """What a remark calls it: the label, with the scale where it is not that of the whole run."""
        partial = self.label == ADAPTED and self.scale != 1.0
        return f"{self.label} at {scale_text(self.scale)}" if partial else self.label

    def looks(self, source: LookSource, looks: Sequence[Any]) -> VisualFeatures:
        """Return features of distinct looks, pooled as the protocol says, or tokens of a contextualizer."""
        protocol = self.encoding.protocol
        if self.contextualizer is not None:
            assert isinstance(source, StoredClips)
            return contextual_features(
                self.clip,
                self.contextualizer,
                source,
                looks,
                precision=protocol.precision,
                cache=self.encoding.cache,
                reporter=self.encoding.reporter,
            )
        return visual_features(
            self.clip,
            source,
            looks,
            pooling=protocol.pooling,  # type: ignore[arg-type]
            precision=protocol.precision,
            cache=self.encoding.cache,
            reporter=self.encoding.reporter,
        )

    def texts(self, texts: Sequence[str]) -> TextFeatures:
        """Return unit-length features of texts, cut after as many tokens as the protocol says."""
        protocol, cache = self.encoding.protocol, self.encoding.cache
        clip = as_protocol_reads(self.clip, protocol)
        with autocast(clip.device, protocol.precision):
            return encode_distinct(
                clip,
                texts,
                cache_beside=None if cache is None else cache / "texts",
                reporter=self.encoding.reporter,
            )

    def raw_texts(self, texts: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
        """Return raw features (n, D) float32 on the CPU, which are not kept, and the texts whose end was not seen.

        This is for prompts that are averaged before they are divided by their lengths.
        """
        clip = as_protocol_reads(self.clip, self.encoding.protocol)
        parts = []
        with autocast(clip.device, self.encoding.protocol.precision):
            for start in range(0, len(texts), BATCH):
                batch = list(texts[start : start + BATCH])
                parts.append(clip.encode_texts(batch + batch[-1:] * (BATCH - len(batch)))[: len(batch)].cpu())
        overlong = overlong_texts(clip, sorted(set(texts)))
        if overlong:
            self.encoding.reporter.warn(f"{len(overlong)} texts are over the context: their end is unseen")
        return torch.cat(parts), overlong


def encoders(
    clip: Clip,
    run: RunFolder | None,
    encoding: Encoding,
    scales: Sequence[float] = WHOLE,
    contextualizer: Contextualizer | None = None,
) -> Iterator[Encoder]:
    """Yield the base model, and then the run attached to it at each scale: drop each before taking the next.

    At scale 0 that is the base again. The last one is attached in place, the others to a copy, so that there are never
    more than two models where each is dropped in time.

    Args:
        contextualizer: The run's, where it is to read the clips of the adapted model, whole (scale 1).
    """
    about = {"name": clip.name, "sha256": clip.sha256, "pretrained": clip.source.pretrained or "local"}
    yield Encoder(BASE, clip, encoding, about, {})
    if run is None:
        return
    for number, scale in enumerate(scales, start=1):
        if len(scales) > 1:
            encoding.reporter.info(f"scale {scale_text(scale)}: {number} of {len(scales)}")
        yield _adapted(clip, run, encoding, scale, contextualizer, in_place=number == len(scales))


def _adapted(
    clip: Clip,
    run: RunFolder,
    encoding: Encoding,
    scale: float,
    contextualizer: Contextualizer | None,
    *,
    in_place: bool,
) -> Encoder:
    config, scale = run.load_config(), float(scale)  # a whole number would go by another key in the feature store
    name = run.name if scale == 1.0 else f"{run.name} at {scale_text(scale)}"
    if scale > 0.0:
        # Full fine-tuning interpolates from the weights that are there, which must be the base's for every scale.
        model = clip.model if in_place else copy.deepcopy(clip.model)
        clip = attach_run(dataclasses.replace(clip, model=model), run, scale=scale)
    about = {"name": name, "adapter_sha256": sha256_of_file(run.adapter_file), "scale": scale}
    if contextualizer is not None:
        name = f"{name} with contextualizer"
        about |= {"name": name, "contextualizer_sha256": contextualizer.sha256}
    named = dataclasses.replace(clip, name=name)
    return Encoder(ADAPTED, named, encoding, about, {"adapt": config["seed"]}, scale, contextualizer)


def as_protocol_reads(clip: Clip, protocol: Protocol) -> Clip:
    """Return the clip with a text tower that sees ``max_tokens`` tokens, whose features are told apart by that.

    Raises:
        UsageError: The model takes fewer tokens, or its own tokenizer cannot be cut.
    """
    text_cfg = dict(clip.model_config["text_cfg"])
    if protocol.precision != "fp32":
        text_cfg["computed_in"] = protocol.precision
    tokenizer = clip.tokenizer
    if protocol.max_tokens is not None and protocol.max_tokens > clip.context_length:
        raise UsageError(
            f"--max-tokens {protocol.max_tokens} is over the {clip.context_length} tokens that {clip.name} takes",
            "leave it out for all of them",
        )
    if protocol.max_tokens is not None and protocol.max_tokens < clip.context_length:
        tokenizer = _cut(clip, protocol.max_tokens)
        text_cfg["context_length"] = protocol.max_tokens
    return dataclasses.replace(clip, tokenizer=tokenizer, model_config={**clip.model_config, "text_cfg": text_cfg})


def _cut(clip: Clip, max_tokens: int) -> Callable[[Sequence[str]], Tensor]:
    """Return a tokenizer whose texts end after ``max_tokens`` tokens, filled up to the model's context."""
    from open_clip.tokenizer import SimpleTokenizer

    if not isinstance(clip.tokenizer, SimpleTokenizer):
        raise UsageError(f"--max-tokens {max_tokens} does not go with the tokenizer of {clip.name}", "leave it out")
    context, short = clip.context_length, quick_tokenizer(SimpleTokenizer(context_length=max_tokens))

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens = short(texts)
        return F.pad(tokens, (0, context - tokens.shape[1]))

    return tokenize
