"""The video contextualizer: shapes, what it attends to, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.pooling import pool_frames


@pytest.fixture
def contextualizer():
    torch.manual_seed(0)
    return VideoContextualizer(ContextualizerConfig(width=32, layers=2)).eval()


def test_a_clip_gives_a_video_token_and_one_token_per_event(contextualizer):
    video, events = contextualizer(torch.randn(3, 5, 4, 32))
    assert video.shape == (3, 32) and events.shape == (3, 5, 32)


def test_fewer_events_and_frames_than_the_limit_are_fine_and_more_are_refused(contextualizer):
    video, events = contextualizer(torch.randn(2, 3, 2, 32))
    assert video.shape == (2, 32) and events.shape == (2, 3, 32)
    with pytest.raises(ValueError, match="at most 5 x 4"):
        contextualizer(torch.randn(1, 6, 4, 32))
    with pytest.raises(ValueError, match="at most 5 x 4"):
        contextualizer(torch.randn(1, 5, 5, 32))


def test_tokens_depend_on_other_events(contextualizer):
    frames = torch.randn(1, 5, 4, 32)
    changed = frames.clone()
    changed[0, 4] = torch.randn(4, 32)
    before, after = contextualizer(frames)[1], contextualizer(changed)[1]
    assert (before[0, 0] - after[0, 0]).abs().max() > 1e-4


def test_events_and_frames_know_their_place(contextualizer):
    frames = torch.randn(1, 5, 4, 32)
    for dimension in (1, 2):
        video, _ = contextualizer(frames)
        turned, _ = contextualizer(frames.flip(dimension))
        assert (video - turned).abs().max() > 1e-4


def test_a_missing_event_is_not_attended_to(contextualizer):
    frames = torch.randn(2, 5, 4, 32)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 2] = False
    other = frames.clone()
    other[1, 2] = 100.0
    video, events = contextualizer(frames, mask)
    video_other, events_other = contextualizer(other, mask)
    assert torch.allclose(video, video_other, atol=1e-6)
    present = mask[..., None].expand_as(events)
    assert torch.allclose(events[present], events_other[present], atol=1e-6)
    assert not torch.allclose(video, contextualizer(frames)[0], atol=1e-4)


def test_every_parameter_gets_a_gradient(contextualizer):
    video, events = contextualizer(torch.randn(2, 5, 4, 32))
    (video.square().sum() + events.square().sum()).backward()
    assert [name for name, p in contextualizer.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("width", [8, 24, 64, 512, 768])
def test_any_embedding_width_has_heads_that_divide_it(width):
    config = ContextualizerConfig(width=width, layers=1)
    assert VideoContextualizer(config)(torch.randn(1, 2, 2, width))[0].shape == (1, width)


def test_the_three_poolings_are_what_their_names_say():
    frames = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(pool_frames(frames, pooling="mean-l2"), torch.tensor([3.0, 1.0]) / 10**0.5)
    assert torch.allclose(pool_frames(frames, pooling="l2-mean-l2"), torch.tensor([0.5, 0.5]) * 2**0.5)
    assert torch.allclose(pool_frames(frames, pooling="l2-mean"), torch.tensor([0.5, 0.5]))


def test_the_values_of_missing_frames_do_not_matter(contextualizer):
    frames = torch.randn(2, 5, 4, 32)
    there = torch.ones(2, 5, 4, dtype=torch.bool)
    there[0, :, 3] = False
    there[1, 2, 1:] = False
    other = torch.where(there[..., None], frames, 100 * torch.randn_like(frames))
    before, after = contextualizer(frames, frame_mask=there), contextualizer(other, frame_mask=there)
    for first, second in zip(before, after, strict=True):
        assert torch.allclose(first, second, atol=1e-6)
    assert not torch.allclose(before[0], contextualizer(frames)[0], atol=1e-4)


def test_missing_frames_get_no_gradient(contextualizer):
    frames = torch.randn(1, 5, 4, 32, requires_grad=True)
    there = torch.ones(1, 5, 4, dtype=torch.bool)
    there[0, 1, 2:] = False
    video, events = contextualizer(frames, frame_mask=there)
    (video.square().sum() + events[0, 0].sum()).backward()
    reached = frames.grad.abs().amax(-1) > 0
    assert torch.equal(reached, there)


def test_masks_that_hide_nothing_change_nothing(contextualizer):
    frames = torch.randn(2, 5, 4, 32)
    everything = torch.ones(2, 5, 4, dtype=torch.bool)
    expected = contextualizer(frames)
    for masks in ((everything[..., 0], None), (None, everything), (everything[..., 0], everything)):
        for first, second in zip(contextualizer(frames, *masks), expected, strict=True):
            assert torch.allclose(first, second, atol=1e-5)


SHAPES = [(5, 4), (2, 4), (5, 1), (3, 2), (1, 1)]


def test_a_batch_of_mixed_sizes_gives_what_each_clip_gives_alone(contextualizer):
    frames, there = torch.randn(len(SHAPES), 5, 4, 32), torch.zeros(len(SHAPES), 5, 4, dtype=torch.bool)
    for row, (events, per_event) in enumerate(SHAPES):
        there[row, :events, :per_event] = True
    videos, tokens = contextualizer(frames, there.any(-1), there)
    for row, (events, per_event) in enumerate(SHAPES):
        video, alone = contextualizer(frames[row : row + 1, :events, :per_event])
        assert torch.allclose(videos[row], video[0], atol=1e-5)
        assert torch.allclose(tokens[row, :events], alone[0], atol=1e-5)


def test_an_event_that_is_missing_in_the_middle_leaves_the_others_their_places(contextualizer):
    """Unlike a clip without it, whose later events would have earlier places."""
    frames = torch.randn(1, 3, 4, 32)
    mask = torch.tensor([[True, False, True]])
    gap = contextualizer(frames, mask)[1][0, 2]
    closed = contextualizer(frames[:, [0, 2]])[1][0, 1]
    assert (gap - closed).abs().max() > 1e-4


def test_a_clip_of_no_frames_at_all_has_finite_tokens(contextualizer):
    nothing = torch.zeros(1, 5, 4, dtype=torch.bool)
    video, events = contextualizer(torch.randn(1, 5, 4, 32), nothing.any(-1), nothing)
    assert torch.isfinite(video).all() and torch.isfinite(events).all()
