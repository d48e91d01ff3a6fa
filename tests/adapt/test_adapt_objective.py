"""The four terms together, against the definition in float64, with their gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from figclip_cli.adapt.objective import objective
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer

B, P, T, D, N, TEXTS = 3, 4, 2, 16, 3, 40
SCALE, VIDEO_WEIGHT = 7.0, 0.25


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(B, P, T, D, dtype=torch.float64, generator=generator)
    table = normalize(torch.randn(TEXTS, D, dtype=torch.float64, generator=generator), dim=-1)
    positives = torch.arange(B * P).reshape(B, P)
    positives[0, 3] = -1  # an event without a prompt
    positives[2, 1] = positives[1, 0]  # two equal texts in different clips
    negatives = 20 + torch.arange(B * P * N).reshape(B, P, N) % 20
    negatives[1, 2, 1:] = -1  # fewer negatives than its neighbours
    torch.manual_seed(0)
    contextualizer = VideoContextualizer(ContextualizerConfig(width=D, layers=1, max_events=P)).double()
    return features.requires_grad_(), table, positives, negatives, contextualizer


def info_nce(rows, texts, equal, private):
    """Mean over rows of both directions; ``equal(i, j)`` says that j is no negative of i."""
    count, total = len(rows), 0.0
    for i in range(count):
        own = SCALE * rows[i] @ texts[i]
        others = [j for j in range(count) if j == i or not equal(i, j)]
        over_texts = [SCALE * rows[i] @ texts[j] for j in others] + [SCALE * rows[i] @ text for text in private[i]]
        over_rows = [SCALE * rows[j] @ texts[i] for j in others]
        total = total + 0.5 * (torch.logsumexp(torch.stack(over_texts), 0) - own)
        total = total + 0.5 * (torch.logsumexp(torch.stack(over_rows), 0) - own)
    return total / count


def by_definition(features, table, positives, negatives, contextualizer):
    events = [(b, p) for b in range(B) for p in range(P) if positives[b, p] >= 0]
    texts = [table[positives[b, p]] for b, p in events]
    private = [[table[n] for n in negatives[b, p] if n >= 0] for b, p in events]

    def same_text(i, j):
        return positives[events[i]] == positives[events[j]]

    clip_event = [normalize(features[b, p].mean(0), dim=-1) for b, p in events]
    clip_video = [normalize(features[b].reshape(-1, D).mean(0), dim=-1) for b in range(B)]
    video_texts = [normalize(torch.stack([table[t] for t in positives[b] if t >= 0]).mean(0), dim=-1) for b in range(B)]
    video_token, event_tokens = contextualizer(features, positives >= 0)
    vc_event = [normalize(event_tokens[b, p], dim=-1) for b, p in events]
    vc_video = [normalize(video_token[b], dim=-1) for b in range(B)]
    none = [[] for _ in range(B)]
    event = info_nce(clip_event, texts, same_text, private) + info_nce(vc_event, texts, same_text, private)
    video = info_nce(clip_video, video_texts, lambda i, j: False, none)
    video = video + info_nce(vc_video, video_texts, lambda i, j: False, none)
    return event + VIDEO_WEIGHT * video


def ours(features, table, positives, negatives, contextualizer, scale=SCALE):
    return objective(
        features,
        contextualizer,
        text_table=table,
        positives=positives,
        negatives=negatives,
        logit_scale=scale,
        video_weight=VIDEO_WEIGHT,
    )


def test_the_total_and_its_gradients_equal_the_definition(batch):
    features, *_, contextualizer = batch
    parameters = [features, *contextualizer.parameters()]
    total, expected = ours(*batch).total, by_definition(*batch)
    assert torch.allclose(total, expected, atol=1e-10)
    found, wanted = torch.autograd.grad(total, parameters), torch.autograd.grad(expected, parameters)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_float32_is_close_to_float64(batch):
    features, table, positives, negatives, contextualizer = batch
    exact = ours(*batch).total.item()
    low = ours(features.float(), table.float(), positives, negatives, contextualizer.float()).total
    assert low.dtype == torch.float32 and low.item() == pytest.approx(exact, abs=1e-5)


def test_the_parts_add_up_to_the_total(batch):
    terms = ours(*batch)
    parts = terms.parts
    expected = parts["clip_event"] + parts["vc_event"] + VIDEO_WEIGHT * (parts["clip_video"] + parts["vc_video"])
    assert torch.allclose(terms.total, expected)


def test_without_a_contextualizer_its_terms_are_gone(batch):
    features, table, positives, negatives, _ = batch
    assert set(ours(features, table, positives, negatives, None).parts) == {"clip_event", "clip_video"}


def test_private_negatives_matter_and_may_be_absent(batch):
    features, table, positives, negatives, contextualizer = batch
    with_them = ours(*batch)
    without = ours(features, table, positives, negatives[:, :, :0], contextualizer)
    assert with_them.parts["clip_event"] > without.parts["clip_event"]
    assert torch.equal(with_them.parts["clip_video"], without.parts["clip_video"])


def test_two_clips_with_the_same_prompts_are_not_each_others_negative(batch):
    features, table, positives, negatives, _ = batch
    same = torch.arange(P).expand(2, P)
    terms = ours(features[:2], table, same, negatives[:2], None)
    assert terms.parts["clip_video"].item() == pytest.approx(0.0, abs=1e-12)
    assert terms.parts["clip_event"] > 0.1  # the other events of both clips still are
    assert ours(features[:2], table, positives[:2], negatives[:2], None).parts["clip_video"] > 0.1


def test_the_inverse_temperature_is_capped_at_100(batch):
    assert torch.equal(ours(*batch, scale=100.0).total, ours(*batch, scale=1e6).total)
    assert not torch.equal(ours(*batch, scale=99.0).total, ours(*batch, scale=100.0).total)
