"""CLIP's tokenizer as the files that transformers reads, made from the vocabulary that open_clip comes with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from figclip_cli.files import write_json, write_text
from figclip_cli.models.tokens import END, START, clip_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_WORD_END = "</w>"
_SPECIAL_TOKENS = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}


def write_tokenizer_files(folder: Path, context_length: int) -> None:
    """Write ``tokenizer.json`` for fast tokenizers, ``vocab.json`` and ``merges.txt`` for slow ones, and settings.

    A plain text gets open_clip's ids, between start and end. open_clip mends broken Unicode and resolves HTML
    entities first (``ftfy``, ``html``), which transformers does not.

    Args:
        context_length: Tokens the model takes, start and end included.
    """
    vocabulary, merges = clip_vocabulary()
    document = json.loads(fast_tokenizer(vocabulary, merges).to_str())
    document["model"]["merges"] = [" ".join(merge) for merge in merges]  # every version reads them so
    write_json(folder / "tokenizer.json", document)
    write_json(folder / "vocab.json", dict(vocabulary))
    lines = ["#version: 0.2", *document["model"]["merges"]]
    write_text(folder / "merges.txt", "".join(f"{line}\n" for line in lines))
    write_json(folder / "special_tokens_map.json", _SPECIAL_TOKENS)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "processor_class": "CLIPProcessor",
        "model_max_length": context_length,
        "do_lower_case": True,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "errors": "replace",
    }
    write_json(folder / "tokenizer_config.json", {**settings, **_SPECIAL_TOKENS})


def fast_tokenizer(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Return CLIP's tokenizer: lower case, byte pairs, a start and an end."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    model = BPE(
        dict(vocabulary), list(merges), end_of_word_suffix=_WORD_END, continuing_subword_prefix="", unk_token=END
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    start, end = (START, vocabulary[START]), (END, vocabulary[END])
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (START, END)])
    return tokenizer
