"""Write captions with a :class:`CaptionDecoder`: the likeliest token each time, or several beams at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from figclip_cli.heads.caption_decoder import CaptionDecoder, DecoderState
from figclip_cli.heads.vocabulary import Vocabulary


@dataclass(frozen=True)
class Generated:
    """Captions as written.

    Attributes:
        texts: One for each row of the memory.
        log_probabilities: (B,) sum over the tokens written; the end token is included where it was chosen.
        lengths: (B,) int64, number of these tokens.
    """

    texts: list[str]
    log_probabilities: Tensor
    lengths: Tensor


@torch.no_grad()
def generate(
    decoder: CaptionDecoder,
    memory: Tensor,
    memory_mask: Tensor,
    vocabulary: Vocabulary,
    *,
    beams: int = 1,
    max_tokens: int | None = None,
    length_penalty: float = 1.0,
    rows_at_once: int = 256,
) -> Generated:
    """Write a caption for each row.

    Args:
        memory: (B, M, width) in the decoder's dtype.
        memory_mask: (B, M) bool, true where a vector is there.
        beams: 1 takes the likeliest token each time; more keep as many captions and return the best.
        max_tokens: Longest caption; None is what the decoder was built for.
        length_penalty: Beams are compared by log probability over length to this power.
        rows_at_once: Captions that are written together; more need more memory, and nothing else changes.
    """
    longest = min(max_tokens or decoder.config.max_tokens, decoder.config.max_tokens)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(memory), rows_at_once):
        piece = memory[start : start + rows_at_once], memory_mask[start : start + rows_at_once]
        state = decoder.begin(*piece)
        parts.append(_search(decoder, state, len(piece[0]), vocabulary, beams, longest, length_penalty))
    if not parts:
        return Generated([], memory.new_zeros(0), torch.zeros(0, dtype=torch.int64))
    texts = [text for tokens, _, _ in parts for text in _texts(tokens.tolist(), vocabulary)]
    return Generated(texts, torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts]))


def _texts(rows: Sequence[Sequence[int]], vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.decode(row) for row in rows]


def _search(
    decoder: CaptionDecoder,
    state: DecoderState,
    rows: int,
    vocabulary: Vocabulary,
    beams: int,
    longest: int,
    length_penalty: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens (rows, L), log probabilities (rows,) and lengths (rows,) of the best beams.

    A finished beam stays among the others with the score it has; the search of a batch ends when all are finished.
    """
    device, dtype = state.mask.device, decoder.position.dtype
    state.select(torch.arange(rows, device=device).repeat_interleave(beams))
    tokens = torch.full((rows, beams, 0), vocabulary.pad_id, dtype=torch.int64, device=device)
    last = torch.full((rows * beams,), vocabulary.start_id, dtype=torch.int64, device=device)
    # All beams are alike at first: only one of them may be continued.
    total = torch.full((rows, beams), float("-inf"), dtype=dtype, device=device)
    total[:, 0] = 0.0
    lengths = torch.zeros((rows, beams), dtype=torch.int64, device=device)
    done = torch.zeros((rows, beams), dtype=torch.bool, device=device)
    offsets = torch.arange(rows, device=device)[:, None] * beams
    for written in range(longest + 1):
        scores = _next_scores(decoder, last, state, vocabulary, may_end=written > 0, must_end=written == longest)
        scores = scores.unflatten(0, (rows, beams))  # (rows, beams, V)
        only_pad = torch.full_like(scores[0, 0], float("-inf"))
        only_pad[vocabulary.pad_id] = 0.0
        scores = torch.where(done[..., None], only_pad, scores)
        longer = lengths + (~done).to(torch.int64)
        summed = total[..., None] + scores
        ranked = summed / longer.clamp_min(1)[..., None].to(dtype) ** length_penalty if beams > 1 else summed
        best = ranked.flatten(1).topk(beams, dim=1).indices  # (rows, beams)
        parent, chosen = best // scores.shape[-1], best % scores.shape[-1]
        total = summed.flatten(1).gather(1, best)
        lengths, done = longer.gather(1, parent), done.gather(1, parent)
        done = done | (chosen == vocabulary.end_id)
        before = tokens.gather(1, parent[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([before, chosen[..., None]], dim=-1)
        if bool(done.all()):
            break
        last = chosen.flatten()
        if beams > 1:
            state.select_own((offsets + parent).flatten())
    # The first beam ranks best: topk sorts.
    return tokens[:, 0].cpu(), total[:, 0].cpu(), lengths[:, 0].cpu()


def _next_scores(
    decoder: CaptionDecoder, last: Tensor, state: DecoderState, vocabulary: Vocabulary, *, may_end: bool, must_end: bool
) -> Tensor:
    """Return log probabilities (rows, V) of the next token; start and padding are never written.

    No caption is empty, as none is in training. After the longest caption only the end may come, and it costs nothing:
    nobody chose it.
    """
    logits = decoder.step(last, state)
    never = [vocabulary.pad_id, vocabulary.start_id, *([] if may_end else [vocabulary.end_id])]
    logits[:, never] = float("-inf")
    scores = logits.log_softmax(dim=-1)
    if must_end:
        scores = torch.full_like(scores, float("-inf"))
        scores[:, vocabulary.end_id] = 0.0
    return scores
