"""CLIP's tokenizer as one file for the ``tokenizers`` package, which makes ids of the model's length by itself."""

from __future__ import annotations

import json
from pathlib import Path

from figclip_cli.export.clip_tokenizer_files import fast_tokenizer
from figclip_cli.files import write_json
from figclip_cli.models.tokens import clip_vocabulary

PAD_ID = 0  # as open_clip pads


def write_tokenizer_file(folder: Path, context_length: int) -> None:
    """Write ``tokenizer.json``: ids as open_clip's ``SimpleTokenizer`` makes them of a plain text, cut and padded.

    Args:
        context_length: Tokens the model takes, start and end included.
    """
    vocabulary, merges = clip_vocabulary()
    tokenizer = fast_tokenizer(vocabulary, merges)
    tokenizer.enable_truncation(max_length=context_length)
    pad_token = next(token for token, number in vocabulary.items() if number == PAD_ID)
    tokenizer.enable_padding(length=context_length, pad_id=PAD_ID, pad_token=pad_token)
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
