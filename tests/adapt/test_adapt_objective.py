"""The four terms together, against the definition in float64 with loops, with their gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn.functional import normalize

from figclip_cli.adapt.batches import Layout
from figclip_cli.adapt.objective import clip_views, objective
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer

D, MOST_EVENTS, MOST_FRAMES, TEXTS = 16, 4, 3, 40
WEIGHTS = {"clip_event": 1.0, "vc_event": 1.0, "clip_video": 0.25, "vc_video": 0.25}
NO_TEXT = None


@dataclass(frozen=True)
class Clip:
    """A clip by hand: per event the number of its text (None without) and of its negatives; frames of an event."""

    name: str
    texts: tuple
    negatives: tuple = ()
    frames: int = 2


def plain(count=3, events=4, frames=2):
    return [Clip(f"c{b}", tuple(events * b + p for p in range(events)), frames=frames) for b in range(count)]


BATCHES = {
    "plain": plain(),
    "two clips of one event": [Clip("a", (0,)), Clip("b", (1,))],
    "missing events": [Clip("a", (0, NO_TEXT, 1)), Clip("b", (NO_TEXT, 2, 3)), Clip("c", (4, NO_TEXT, NO_TEXT))],
    "equal texts in different clips": [Clip("a", (0, 1, 2)), Clip("b", (3, 0, 4)), Clip("c", (1, 5, 0))],
    "equal texts in one clip": [Clip("a", (0, 0, 1)), Clip("b", (2, 3, 2))],
    "fewer negatives": [
        Clip("a", (0, 1), ((20, 21, 22), (23,))),
        Clip("b", (2, 3), ((), (24, 25))),
        Clip("c", (4, NO_TEXT), ((26, 20), ())),
    ],
    "several sizes": [
        Clip("a", (0, 1), ((20,), (21, 22))),
        Clip("b", (2, 3, 4, 5), frames=1),
        Clip("c", (6,), ((23, 24, 25),), frames=3),
        Clip("d", (7, NO_TEXT, 8), frames=3),
    ],
    "one clip twice": [Clip("a", (0, 1, 2)), Clip("a", (3, 4, 5)), Clip("b", (6, 7, 8), ((20,), (21,), ()))],
    "one clip twice with other sizes": [Clip("a", (0, 1)), Clip("b", (6,), frames=1), Clip("a", (3, 4, 5), frames=1)],
    "equal prompts throughout": [Clip("a", (0, 1)), Clip("b", (0, 1)), Clip("c", (2, 3))],
    "equal prompts in another order": [Clip("a", (0, 1)), Clip("b", (1, 0)), Clip("c", (2, NO_TEXT, 3))],
    "one clip": [Clip("a", (0, 1, 2), ((20,), (), (21,)))],
}


def layout_of(clips):
    events = max(len(clip.texts) for clip in clips)
    frames = max(clip.frames for clip in clips)
    width = max([len(own) for clip in clips for own in clip.negatives], default=0)
    index = torch.full((len(clips), events, frames), -1)
    positives, negatives = torch.full((len(clips), events), -1), torch.full((len(clips), events, width), -1)
    used = sorted({t for c in clips for own in (c.texts, *c.negatives) for t in own if t is not NO_TEXT})
    first = 0
    for b, clip in enumerate(clips):
        for p, text in enumerate(clip.texts):
            for t in range(clip.frames):
                index[b, p, t], first = first, first + 1
            if text is not NO_TEXT:
                positives[b, p] = used.index(text)
            for n, negative in enumerate(clip.negatives[p] if clip.negatives else ()):
                negatives[b, p, n] = used.index(negative)
    names = [clip.name for clip in clips]
    numbers = torch.tensor([names.index(name) for name in names])
    dense = first == index.numel()
    prompts = [sorted(text for text in clip.texts if text is not NO_TEXT) for clip in clips]
    layout = Layout(
        clip_ids=tuple(names),
        frame_index=index,
        positives=positives,
        negatives=negatives,
        kinds=negatives.clamp(max=0),
        events=torch.tensor([e for e, text in enumerate(positives.flatten().tolist()) if text >= 0]),
        text_rows=torch.tensor(used),
        clip_numbers=numbers,
        prompt_numbers=torch.tensor([prompts.index(one) for one in prompts]),
        is_dense=dense,
    )
    return layout, first


@dataclass(frozen=True)
class World:
    clips: list
    layout: Layout
    features: torch.Tensor
    table: torch.Tensor
    contextualizer: VideoContextualizer

    @property
    def texts(self):
        return self.table[self.layout.text_rows]


def world(clips, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layout, count = layout_of(clips)
    features = torch.randn(count, D, dtype=torch.float64, generator=generator).requires_grad_()
    table = normalize(torch.randn(TEXTS, D, dtype=torch.float64, generator=generator), dim=-1)
    torch.manual_seed(seed)
    config = ContextualizerConfig(width=D, layers=1, max_events=MOST_EVENTS, max_frames_per_event=MOST_FRAMES)
    return World(clips, layout, features, table, VideoContextualizer(config).double())


def info_nce(rows, texts, apart, private, scale):
    """Mean over rows of both directions; ``apart(i, j)`` says that j is no negative of i."""
    count, total = len(rows), 0.0
    for i in range(count):
        own = scale * (rows[i] @ texts[i])
        others = [j for j in range(count) if j == i or not apart(i, j)]
        over_texts = [scale * (rows[i] @ texts[j]) for j in others] + [scale * (rows[i] @ text) for text in private[i]]
        over_rows = [scale * (rows[j] @ texts[i]) for j in others]
        total = total + 0.5 * (torch.logsumexp(torch.stack(over_texts), 0) - own)
        total = total + 0.5 * (torch.logsumexp(torch.stack(over_rows), 0) - own)
    return total / count


def by_definition(made, scale=7.0, natural=True):
    """Each term's value, clip by clip, with nothing padded."""
    clips, table, unread = made.clips, made.table, iter(made.features)
    frames = [[[next(unread) for _ in range(clip.frames)] for _ in clip.texts] for clip in clips]
    keys = [(b, p) for b, clip in enumerate(clips) for p, text in enumerate(clip.texts) if text is not NO_TEXT]
    texts = [table[clips[b].texts[p]] for b, p in keys]
    private = [[table[n] for n in (clips[b].negatives[p] if clips[b].negatives else ())] for b, p in keys]

    def events_apart(i, j):
        (b, p), (c, q) = keys[i], keys[j]
        same_clip = clips[b].name == clips[c].name
        return clips[b].texts[p] == clips[c].texts[q] or (same_clip and (p == q or not natural))

    def videos_apart(b, c):
        first, second = (sorted(text for text in clips[x].texts if text is not NO_TEXT) for x in (b, c))
        return clips[b].name == clips[c].name or first == second

    clip_event = [normalize(torch.stack(frames[b][p]).mean(0), dim=-1) for b, p in keys]
    clip_video = [normalize(torch.stack([f for event in clip for f in event]).mean(0), dim=-1) for clip in frames]
    video_texts = [
        normalize(torch.stack([table[t] for t in clip.texts if t is not NO_TEXT]).mean(0), dim=-1) for clip in clips
    ]
    alone = [made.contextualizer(torch.stack([torch.stack(event) for event in clip])[None]) for clip in frames]
    vc_event = [normalize(alone[b][1][0, p], dim=-1) for b, p in keys]
    vc_video = [normalize(video[0], dim=-1) for video, _ in alone]
    none = [[] for _ in clips]
    return {
        "clip_event": info_nce(clip_event, texts, events_apart, private, scale),
        "vc_event": info_nce(vc_event, texts, events_apart, private, scale),
        "clip_video": info_nce(clip_video, video_texts, videos_apart, none, scale),
        "vc_video": info_nce(vc_video, video_texts, videos_apart, none, scale),
    }


def weighted(parts, weights=WEIGHTS):
    return sum(weights[name] * value for name, value in parts.items())


def ours(made, *, scale=7.0, weights=WEIGHTS, natural=True, without_vc=False):
    return objective(
        made.features,
        None if without_vc else made.contextualizer,
        layout=made.layout,
        texts=made.texts,
        logit_scale=scale,
        weights=weights,
        natural_negatives=natural,
    )


@pytest.mark.parametrize("natural", [True, False])
@pytest.mark.parametrize("name", BATCHES)
def test_the_total_and_its_gradients_equal_the_definition(name, natural):
    made = world(BATCHES[name])
    parameters = [made.features, *made.contextualizer.parameters()]
    found, parts = ours(made, natural=natural), by_definition(made, natural=natural)
    for term, value in parts.items():
        assert found.parts[term].item() == pytest.approx(value.item(), abs=1e-10), term
    expected = weighted(parts)
    assert found.total.item() == pytest.approx(expected.item(), abs=1e-10)
    gradients = torch.autograd.grad(found.total, parameters, materialize_grads=True)
    for a, b in zip(gradients, torch.autograd.grad(expected, parameters, materialize_grads=True), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", ["plain", "missing events", "fewer negatives"])
def test_a_dense_layout_gives_the_same_as_one_that_is_looked_up(name):
    made = world(BATCHES[name])
    assert made.layout.is_dense
    looked_up = replace(made, layout=replace(made.layout, is_dense=False))
    assert torch.equal(ours(made).total, ours(looked_up).total)
    first, second = (torch.autograd.grad(ours(one).total, one.features)[0] for one in (made, looked_up))
    assert torch.allclose(first, second, atol=1e-12)


def test_padding_with_events_and_frames_that_are_not_there_changes_nothing():
    made = world(BATCHES["several sizes"])
    pad = torch.nn.functional.pad
    layout = made.layout
    assert not layout.is_dense
    smaller = world([Clip("b", (2, 3, 4, 5), frames=2), Clip("c", (6,), frames=2)])
    padded = replace(
        smaller.layout,
        frame_index=pad(smaller.layout.frame_index, (0, 1), value=-1),
        negatives=pad(smaller.layout.negatives, (0, 2), value=-1),
    )
    assert torch.allclose(ours(smaller).total, ours(replace(smaller, layout=padded)).total, atol=1e-12)


WEIGHTINGS = [
    {"clip_event": 0.5, "vc_event": 2.0, "clip_video": 3.0, "vc_video": 0.1},
    *({**WEIGHTS, name: 0.0} for name in WEIGHTS),
    *({**dict.fromkeys(WEIGHTS, 0.0), name: 0.7} for name in WEIGHTS),
]


@pytest.mark.parametrize("weights", WEIGHTINGS)
def test_each_term_has_its_weight_and_one_of_zero_is_left_out(weights):
    made = world(BATCHES["fewer negatives"])
    terms, parts = ours(made, weights=weights), by_definition(made)
    assert terms.total.item() == pytest.approx(weighted(parts, weights).item(), abs=1e-10)
    assert set(terms.parts) == {name for name, weight in weights.items() if weight}
    parameters = [made.features, *made.contextualizer.parameters()]
    wanted = torch.autograd.grad(weighted(parts, weights), parameters, allow_unused=True, materialize_grads=True)
    found = torch.autograd.grad(terms.total, parameters, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_without_a_contextualizer_its_terms_are_gone():
    made = world(BATCHES["plain"])
    terms, parts = ours(made, without_vc=True), by_definition(made)
    assert set(terms.parts) == {"clip_event", "clip_video"}
    assert terms.total.item() == pytest.approx((parts["clip_event"] + 0.25 * parts["clip_video"]).item(), abs=1e-10)


@pytest.mark.parametrize("scale", [1.0, 14.3, 60.0])
def test_the_gradient_of_a_learned_temperature_equals_the_definition(scale):
    made = world(BATCHES["fewer negatives"])
    log_scale = torch.tensor(math.log(scale), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(ours(made, scale=log_scale.exp()).total, log_scale)
    (wanted,) = torch.autograd.grad(weighted(by_definition(made, scale=log_scale.exp())), log_scale)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9) and abs(wanted) > 1e-4


def test_a_fixed_inverse_temperature_is_capped_at_100():
    made = world(BATCHES["plain"])

    def total(scale):
        return ours(made, scale=scale).total

    assert torch.equal(total(100.0), total(1e6)) and not torch.equal(total(99.0), total(100.0))
    assert total(1e6).item() == pytest.approx(weighted(by_definition(made, scale=100.0)).item(), abs=1e-9)


def test_a_trained_temperature_at_the_cap_still_has_a_gradient():
    scale = torch.tensor(100.00001, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(ours(world(BATCHES["plain"]), scale=scale).total, scale)
    assert gradient.item() != 0.0


def test_a_private_negative_is_private():
    """It reaches its own event's features and no other event's, in both event terms."""
    with_it = [Clip("a", (0, 1), ((20,), ())), Clip("b", (2, 3))]
    without = [Clip("a", (0, 1)), Clip("b", (2, 3))]
    weights = {**dict.fromkeys(WEIGHTS, 0.0), "clip_event": 1.0}
    first, second = world(with_it), world(without)
    changed = torch.autograd.grad(ours(first, weights=weights).total, first.features)[0]
    unchanged = torch.autograd.grad(ours(second, weights=weights).total, second.features)[0]
    moved = (changed - unchanged).abs().amax(1) > 1e-9
    assert moved.tolist() == [True, True, *[False] * 6]


def test_private_negatives_leave_the_video_terms_alone():
    first, second = world([Clip("a", (0,), ((20, 21),)), Clip("b", (1,))]), world([Clip("a", (0,)), Clip("b", (1,))])
    here, there = ours(first).parts, ours(second).parts
    assert here["clip_event"] > there["clip_event"] and here["vc_event"] > there["vc_event"]
    assert here["clip_video"].item() == there["clip_video"].item()
    assert here["vc_video"].item() == there["vc_video"].item()


@pytest.mark.parametrize("natural", [True, False])
def test_a_clip_twice_in_a_batch_is_never_its_own_negative(natural):
    """Alone with itself nothing is left to be told apart but, with natural negatives, its other events."""
    twice = world([Clip("a", (0, 1)), Clip("a", (2, 3))])
    parts = ours(twice, natural=natural).parts
    assert parts["clip_video"].item() == parts["vc_video"].item() == pytest.approx(0.0, abs=1e-12)
    assert (parts["clip_event"].item() > 0.1) == natural
    single = ours(world([Clip("a", (0,)), Clip("a", (2,))]), natural=natural).parts
    assert single["clip_event"].item() == single["vc_event"].item() == pytest.approx(0.0, abs=1e-12)


def test_two_clips_with_the_same_prompts_are_not_each_others_negative():
    parts = ours(world([Clip("a", (0, 1)), Clip("b", (0, 1))])).parts
    assert parts["clip_video"].item() == pytest.approx(0.0, abs=1e-12)
    assert parts["clip_event"].item() > 0.1  # the other events of both clips still are
    assert ours(world([Clip("a", (0, 1)), Clip("b", (0, 2))])).parts["clip_video"].item() > 0.1


def test_without_natural_negatives_events_of_one_clip_are_not_told_apart():
    alone = ours(world([Clip("a", (0, 1, 2))]), natural=False).parts
    assert alone["clip_event"].item() == pytest.approx(0.0, abs=1e-12)
    assert ours(world([Clip("a", (0, 1, 2))])).parts["clip_event"].item() > 0.1


def test_float32_is_close_to_float64():
    made = world(BATCHES["several sizes"])
    exact = ours(made).total.item()
    low = replace(
        made,
        features=made.features.detach().float(),
        table=made.table.float(),
        contextualizer=made.contextualizer.float(),
    )
    terms = ours(low)
    assert terms.total.dtype == torch.float32 and terms.total.item() == pytest.approx(exact, abs=1e-5)


def test_the_parts_are_values_without_gradients():
    terms = ours(world(BATCHES["plain"]))
    assert terms.total.requires_grad and not any(value.requires_grad for value in terms.parts.values())


def test_views_are_of_unit_length_and_an_event_without_frames_is_zero():
    made = world(BATCHES["several sizes"])
    views = clip_views(made.features, made.layout, made.contextualizer)
    there = (made.layout.frame_index >= 0).any(-1)
    for name in ("clip", "vc"):
        assert torch.allclose(views.events[name][there].norm(dim=-1), torch.ones(10, dtype=torch.float64))
        assert torch.allclose(views.videos[name].norm(dim=-1), torch.ones(4, dtype=torch.float64))
    assert views.events["clip"][~there].abs().max().item() == 0.0
