"""The models of one evaluation, base first and then adapted, each with the protocol that it encodes by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.evaluate.visuals import VisualFeatures, visual_features
from figclip_cli.evaluate.visuals.source import LookSource
from figclip_cli.files import sha256_of_file
from figclip_cli.models.adapted import attach_run
from figclip_cli.models.clip import Clip, autocast
from figclip_cli.models.text_encoding import BATCH, quick_tokenizer
from figclip_cli.models.text_features import TextFeatures, encode_distinct, overlong_texts
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

BASE, ADAPTED = "base", "adapted"


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
    """

    label: str
    clip: Clip
    encoding: Encoding
    about: dict[str, Any]
    seeds: dict[str, int]

    def looks(self, source: LookSource, looks: Sequence[Any]) -> VisualFeatures:
        """Return features of distinct looks, pooled as the protocol says."""
        protocol = self.encoding.protocol
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


def encoders(clip: Clip, run: RunFolder | None, encoding: Encoding) -> Iterator[Encoder]:
    """Yield the base model, and then the run attached to it, in place: use each before taking the next."""
    about = {"name": clip.name, "sha256": clip.sha256, "pretrained": clip.source.pretrained or "local"}
    yield Encoder(BASE, clip, encoding, about, {})
    if run is None:
        return
    adapted, config = attach_run(clip, run), run.load_config()
    about = {"name": run.name, "adapter_sha256": sha256_of_file(run.adapter_file)}
    yield Encoder(ADAPTED, adapted, encoding, about, {"adapt": config["seed"]})


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
