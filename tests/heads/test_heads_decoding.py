"""The cache changes nothing, greedy takes the likeliest, beams find what an exhaustive search finds."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from figclip_cli.heads.caption_decoder import CaptionDecoder, DecoderConfig, caption_loss
from figclip_cli.heads.decoding import generate
from figclip_cli.heads.vocabulary import clip_vocabulary

TEXTS = ["a dog", "a cat", "the red ball", "man runs"]
ROWS, MEMORY, WIDTH = 5, 4, 16


@pytest.fixture(scope="module")
def vocabulary():
    return clip_vocabulary(TEXTS)


@pytest.fixture
def decoder(vocabulary):
    torch.manual_seed(1)
    config = DecoderConfig(vocabulary.size, width=WIDTH, layers=2, heads=2, max_tokens=3)
    made = CaptionDecoder(config).double().eval()
    for parameter in made.parameters():  # weights that make tokens differ
        parameter.data.mul_(3).add_(torch.randn_like(parameter) * 0.3)
    return made


@pytest.fixture
def memory():
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(ROWS, MEMORY, WIDTH, generator=generator, dtype=torch.float64)
    mask = torch.rand(ROWS, MEMORY, generator=generator) > 0.3
    mask[:, 0] = True
    return vectors, mask


def test_step_by_step_gives_the_logits_of_all_at_once(decoder, memory, vocabulary):
    tokens = torch.randint(0, vocabulary.size, (ROWS, 4), generator=torch.Generator().manual_seed(3))
    together = decoder(*memory, tokens)
    state = decoder.begin(*memory)
    for place in range(4):
        assert torch.allclose(decoder.step(tokens[:, place], state), together[:, place], atol=1e-12)


def test_a_token_looks_only_at_those_before_and_masked_memory_is_not_seen(decoder, memory, vocabulary):
    tokens = torch.randint(0, vocabulary.size, (ROWS, 4), generator=torch.Generator().manual_seed(3))
    before = decoder(*memory, tokens)
    later = tokens.clone()
    later[:, 3] = (later[:, 3] + 1) % vocabulary.size
    assert torch.equal(decoder(*memory, later)[:, :3], before[:, :3])
    assert not torch.allclose(decoder(*memory, later)[:, 3], before[:, 3])
    vectors, mask = memory
    assert not mask.all()
    assert torch.equal(decoder(torch.where(mask[..., None], vectors, 7.0), mask, tokens), before)
    assert not torch.allclose(decoder(vectors + 1, mask, tokens), before)


def test_selected_rows_go_on_as_they_would_alone(decoder, memory, vocabulary):
    tokens = torch.arange(ROWS) % vocabulary.size
    state = decoder.begin(*memory)
    decoder.step(tokens, state)
    rows = torch.tensor([3, 0, 0])
    state.select(rows)
    found = decoder.step(tokens[rows], state)
    alone = decoder.begin(memory[0][rows], memory[1][rows])
    decoder.step(tokens[rows], alone)
    assert torch.allclose(found, decoder.step(tokens[rows], alone), atol=1e-12)


def log_probability(decoder, memory, mask, tokens, vocabulary):
    """Of one caption, computed from the whole sequence; special tokens that are never written have none."""
    row = torch.tensor([[vocabulary.start_id, *tokens]])
    logits = decoder(memory[None], mask[None], row)[0].detach()
    logits[:, [vocabulary.pad_id, vocabulary.start_id]] = float("-inf")
    logits[0, vocabulary.end_id] = float("-inf")  # no caption is empty
    scores = logits.log_softmax(-1)
    chosen = [*tokens, vocabulary.end_id]
    return sum(
        (0.0 if place == 3 else float(scores[place, token])) for place, token in enumerate(chosen)
    )  # the end after the last token is forced


def test_greedy_takes_the_likeliest_token_each_time(decoder, memory, vocabulary):
    found = generate(decoder, *memory, vocabulary)
    for row in range(ROWS):
        tokens = []
        while len(tokens) < 3:
            logits = decoder(memory[0][row : row + 1], memory[1][row : row + 1], torch.tensor([[1, *tokens]]))[0, -1]
            logits[[vocabulary.pad_id, vocabulary.start_id]] = float("-inf")
            if not tokens:
                logits[vocabulary.end_id] = float("-inf")
            token = int(logits.argmax())
            if token == vocabulary.end_id:
                break
            tokens.append(token)
        assert found.texts[row] == vocabulary.decode(tokens)
        expected = log_probability(decoder, memory[0][row], memory[1][row], tokens, vocabulary)
        assert float(found.log_probabilities[row]) == pytest.approx(expected, abs=1e-9)
        assert int(found.lengths[row]) == len(tokens) + 1


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_wide_beams_find_the_best_of_all_captions(decoder, memory, vocabulary, penalty):
    words = range(vocabulary.end_id + 1, vocabulary.size)
    captions = [tokens for length in range(1, 4) for tokens in product(words, repeat=length)]
    found = generate(decoder, *memory, vocabulary, beams=len(words) ** 2, length_penalty=penalty)
    for row in range(2):
        scores = {
            tokens: log_probability(decoder, memory[0][row], memory[1][row], tokens, vocabulary)
            / (len(tokens) + 1) ** penalty
            for tokens in captions
        }
        best = max(scores, key=scores.__getitem__)
        assert found.texts[row] == vocabulary.decode(best)


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_and_scores_do_not_depend_on_what_is_written_beside(decoder, memory, vocabulary, beams):
    together = generate(decoder, *memory, vocabulary, beams=beams)
    for at_once in (1, 2):
        parts = generate(decoder, *memory, vocabulary, beams=beams, rows_at_once=at_once)
        assert parts.texts == together.texts
        assert torch.equal(parts.log_probabilities.float(), together.log_probabilities.float())
        assert torch.equal(parts.lengths, together.lengths)


def test_more_beams_are_never_worse_and_no_row_gives_no_caption(decoder, memory, vocabulary):
    greedy = generate(decoder, *memory, vocabulary, length_penalty=0.0)
    beams = generate(decoder, *memory, vocabulary, beams=8, length_penalty=0.0)
    assert (beams.log_probabilities >= greedy.log_probabilities - 1e-12).all()
    assert generate(decoder, memory[0][:0], memory[1][:0], vocabulary).texts == []


def test_the_loss_is_the_mean_over_what_is_not_padding():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, 2, 0], [3, 0, 0]])
    scores = logits.log_softmax(-1)
    expected = -(scores[0, 0, 1] + scores[0, 1, 2] + scores[1, 0, 3]) / 3
    assert torch.allclose(caption_loss(logits, targets, 0), expected)
    assert caption_loss(logits, torch.zeros(2, 3, dtype=torch.int64), 0) == 0


def test_a_decoder_learns_captions_of_its_memory(vocabulary):
    torch.manual_seed(0)
    decoder = CaptionDecoder(DecoderConfig(vocabulary.size, width=32, layers=2, heads=2, max_tokens=6, dropout=0.0))
    memory = torch.randn(len(TEXTS), 1, 32)
    mask = torch.ones(len(TEXTS), 1, dtype=torch.bool)
    from figclip_cli.heads.vocabulary import padded

    tokens = padded(vocabulary, TEXTS, 6)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        caption_loss(decoder(memory, mask, tokens[:, :-1]), tokens[:, 1:], vocabulary.pad_id).backward()
        optimizer.step()
    assert generate(decoder.eval(), memory, mask, vocabulary, beams=2).texts == TEXTS
