"""Validation metrics re-derived with loops, on data with many ties and equal texts."""

from __future__ import annotations

import json

import pytest
import torch
from samples import CLIP_IDS, QUICK
from torch.nn.functional import normalize

from figclip_cli.adapt import AdaptOptions, ClipLists, SourceFiles, adapt, held_out
from figclip_cli.adapt.batches import Layout
from figclip_cli.adapt.validation import EventScores, event_ranks, score_events, validation_metrics
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

KINDS = ("role-noun", "unused", "verb-role")


def small_integers(seed, *shape):
    """Vectors of small integers: their products are exact, so that ties are ties in any order of summing."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def scored(seed, rows=23, negatives=30, texts=9):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, texts, (rows,), generator=generator)
    table = small_integers(seed + 50, texts, 3)
    return EventScores(
        views={"clip": small_integers(seed + 1, rows, 3), "vc": small_integers(seed + 2, rows, 3)},
        texts=table[numbers],
        text_numbers=numbers,
        margins={"clip": small_integers(seed + 3, negatives), "vc": small_integers(seed + 4, negatives)},
        margin_kinds=torch.randint(0, 2, (negatives,), generator=generator) * 2,
        margin_rows=torch.randint(0, rows, (negatives,), generator=generator),
    )


def rank_by_definition(texts, events, numbers, i):
    own = sum(a * b for a, b in zip(texts[i], events[i], strict=True))
    rank = 0.0
    for j in range(len(events)):
        if numbers[j] != numbers[i]:
            score = sum(a * b for a, b in zip(texts[i], events[j], strict=True))
            rank += 1.0 if score > own else 0.5 if score == own else 0.0
    return rank


def metrics_by_definition(one, view):
    count = len(one.texts)
    ranks = [
        rank_by_definition(one.texts.tolist(), one.views[view].tolist(), one.text_numbers.tolist(), i)
        for i in range(count)
    ]
    told = [margin > 0 for margin in one.margins[view].tolist()]
    rows, kinds = one.margin_rows.tolist(), one.margin_kinds.tolist()
    of_event = {row: [t for t, r in zip(told, rows, strict=True) if r == row] for row in rows}
    expected = {
        "event_recall_at_1": sum(rank < 1 for rank in ranks) / count,
        "event_recall_at_5": sum(rank < 5 for rank in ranks) / count,
        "event_mrr": sum(1 / (rank + 1) for rank in ranks) / count,
        "hard_negative_accuracy": sum(all(own) for own in of_event.values()) / len(of_event),
    }
    for number, kind in enumerate(KINDS):
        of_kind = [t for t, k in zip(told, kinds, strict=True) if k == number]
        if of_kind:
            expected[f"told/{kind}"] = sum(of_kind) / len(of_kind)
    prefix = "" if view == "clip" else "vc_"
    return {prefix + name: value for name, value in expected.items()}


@pytest.mark.parametrize("seed", range(8))
def test_the_metrics_equal_their_definitions(seed):
    one = scored(seed)
    expected = metrics_by_definition(one, "clip") | metrics_by_definition(one, "vc")
    assert validation_metrics([one], KINDS) == pytest.approx(expected, abs=1e-12)
    assert "told/unused" not in expected


@pytest.mark.parametrize("block", [1, 2, 7, 22, 23, 1000])
def test_the_block_size_does_not_matter(block):
    one = scored(3)
    expected = [
        rank_by_definition(one.texts.tolist(), one.views["clip"].tolist(), one.text_numbers.tolist(), i)
        for i in range(23)
    ]
    assert event_ranks(one.texts, one.views["clip"], one.text_numbers, block=block).tolist() == expected
    assert len(set(expected)) > 5 and any(rank % 1 for rank in expected)


def cut(one, bounds):
    parts = []
    for first, last in zip(bounds, bounds[1:], strict=False):
        inside = (one.margin_rows >= first) & (one.margin_rows < last)
        parts.append(
            EventScores(
                {name: view[first:last] for name, view in one.views.items()},
                one.texts[first:last],
                one.text_numbers[first:last],
                {name: margin[inside] for name, margin in one.margins.items()},
                one.margin_kinds[inside],
                one.margin_rows[inside] - first,
            )
        )
    return parts


@pytest.mark.parametrize("bounds", [(0, 23), (0, 1, 23), (0, 10, 20, 23), tuple(range(24))])
def test_several_parts_give_what_one_gives(bounds):
    one = scored(5)
    assert validation_metrics(iter(cut(one, bounds)), KINDS) == validation_metrics([one], KINDS)


def test_a_tie_with_the_own_event_counts_half_and_an_equal_text_nothing():
    texts = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    events = torch.tensor([[1.0, 0], [1, 0], [1, 1], [0, 1]])
    assert event_ranks(texts, events, torch.tensor([0, 0, 1, 2])).tolist() == [0.5, 0.5, 0.5, 0.5]
    assert event_ranks(texts, events, torch.tensor([0, 1, 2, 2])).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_features_that_are_all_the_same_are_no_better_than_chance():
    ranks = event_ranks(torch.ones(5, 2), torch.ones(5, 2), torch.arange(5))
    assert ranks.tolist() == [2.0] * 5


def test_a_negative_that_scores_the_same_is_not_told():
    one = scored(0, negatives=3)
    tied = EventScores(one.views, one.texts, one.text_numbers, {"clip": torch.tensor([0.0, 1.0, 1.0])}, *(
        torch.tensor([0, 0, 2]), torch.tensor([4, 4, 7])
    ))  # fmt: skip
    tied.views.pop("vc")
    found = validation_metrics([tied], KINDS)
    assert found["hard_negative_accuracy"] == 0.5
    assert found["told/role-noun"] == 0.5 and found["told/verb-role"] == 1.0


def test_without_negatives_there_is_no_accuracy_of_them():
    assert set(validation_metrics([scored(0, negatives=0)], KINDS)) == {
        f"{prefix}event_{name}" for prefix in ("", "vc_") for name in ("recall_at_1", "recall_at_5", "mrr")
    }


@pytest.fixture
def two_clips():
    """Two clips of 2 x 2 frames; clip 1's second event has no prompt; text rows 3, 5, 6 and 9 of the run."""
    layout = Layout(
        clip_ids=("a", "b"),
        frame_index=torch.arange(8).view(2, 2, 2),
        positives=torch.tensor([[0, 2], [2, -1]]),
        negatives=torch.tensor([[[1, 3], [0, -1]], [[3, -1], [-1, -1]]]),
        kinds=torch.tensor([[[2, 0], [0, -1]], [[2, -1], [-1, -1]]]),
        events=torch.tensor([0, 1, 2]),
        text_rows=torch.tensor([3, 5, 6, 9]),
        clip_numbers=torch.tensor([0, 1]),
        prompt_numbers=torch.tensor([0, 1]),
        is_dense=True,
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 16, generator=generator, requires_grad=True)
    texts = normalize(torch.randn(4, 16, generator=generator), dim=-1)
    torch.manual_seed(0)
    config = ContextualizerConfig(width=16, layers=1, max_events=2, max_frames_per_event=2)
    return features, layout, texts, VideoContextualizer(config)


def test_events_are_scored_against_their_own_prompt_and_negatives(two_clips):
    features, layout, texts, contextualizer = two_clips
    found = score_events(features, layout, texts, contextualizer)
    event = [normalize(features[a:b].mean(0), dim=0) for a, b in ((0, 2), (2, 4), (4, 6))]
    token = contextualizer(features.view(2, 2, 2, 16))[1].flatten(0, 1)[:3]
    pairs = [(0, 0, 1), (0, 0, 3), (1, 2, 0), (2, 2, 3)]  # event, its prompt, its negative
    for name, view in (("clip", event), ("vc", normalize(token, dim=-1))):
        assert torch.allclose(found.views[name], torch.stack(list(view)), atol=1e-6)
        expected = [view[i] @ texts[own] - view[i] @ texts[other] for i, own, other in pairs]
        assert torch.allclose(found.margins[name], torch.stack(expected), atol=1e-6)
        assert not found.margins[name].requires_grad and not found.views[name].requires_grad
    assert found.text_numbers.tolist() == [3, 6, 6]
    assert found.margin_rows.tolist() == [0, 0, 1, 2] and found.margin_kinds.tolist() == [2, 0, 0, 2]
    assert torch.equal(found.texts, texts[[0, 2, 2]])


def test_without_a_contextualizer_there_is_one_view(two_clips):
    features, layout, texts, _ = two_clips
    found = score_events(features, layout, texts, None)
    assert list(found.views) == list(found.margins) == ["clip"]
    assert not any(name.startswith("vc") for name in validation_metrics([found], KINDS))


def test_a_run_that_was_stopped_in_a_validation_validates_when_it_goes_on(prepared, tmp_path, monkeypatch):
    (tmp_path / "v.txt").write_text(CLIP_IDS[0])
    files = [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    lists, source = ClipLists(validation=tmp_path / "v.txt"), ModelSource(str(prepared / "base-model"))

    def trained(name, **flags):
        run = RunFolder(tmp_path / name)
        adapt(files, run, source=source, options=AdaptOptions(**QUICK), lists=lists, **flags)
        return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]

    whole = trained("whole")
    with monkeypatch.context() as patch:

        def stops(*_):
            raise KeyboardInterrupt

        patch.setattr(held_out, "validation_metrics", stops)
        with pytest.raises(KeyboardInterrupt):
            trained("stopped")
    assert trained("stopped", resume=True) == whole
    assert [line["step"] for line in whole if "validation" in line] == [2, 4]
