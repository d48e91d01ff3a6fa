"""Batches: what each step sees, in every process and with any number of workers."""

from __future__ import annotations

import json
from collections import Counter

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sources import annotations_of, event, opened, write_small_prompts, write_small_source

from figclip_cli.adapt.batches import Batches, FrameDataset, JpegFrames
from figclip_cli.adapt.chance import stable_integer
from figclip_cli.adapt.frames_on_device import decoded_on
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.texts import ClipRef
from figclip_cli.errors import InputError

CPU = torch.device("cpu")


class Listed:
    """A source of which only the order of clips is asked."""

    def __init__(self, clip_ids, weight=1.0, frames=None):
        self.clip_ids, self.weight, self.frames = tuple(clip_ids), weight, frames


def listed(*sources, size, seed=0, **options):
    return Batches([Listed(*one) for one in sources], {}, size=size, seed=seed, **options)


def named(count, letter="c"):
    return [f"{letter}{number:02d}" for number in range(count)]


def shown(order):
    return Counter(ref for step in order for ref in step)


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory):
    """Seven clips of 2 x 2 frames and three of 3 x 1, one id in both."""
    folder = tmp_path_factory.mktemp("two")
    first = write_small_source(folder, "a", named(7), events=2)
    second = write_small_source(folder, "b", ["c06", *named(2, "d")], events=3, per_event=1)
    return opened([first, second])


def batches(sources, size=4, seed=0, **options):
    annotations, _ = annotations_of(sources, AdaptOptions())
    return Batches(sources, annotations, size=size, seed=seed, **options)


def bytes_of(frames):
    return (frames.data, frames.lengths) if isinstance(frames, JpegFrames) else (frames, ())


def same_batch(first, second):
    one, other = vars(first.layout), vars(second.layout)
    equal = all(torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k] for k in one)
    (data, lengths), (other_data, other_lengths) = bytes_of(first.frames), bytes_of(second.frames)
    place = (first.epoch, first.number, first.frame_counts) == (second.epoch, second.number, second.frame_counts)
    return equal and place and torch.equal(data, other_data) and lengths == other_lengths


@pytest.mark.parametrize(("count", "size"), [(6, 3), (7, 3), (20, 4), (2, 5), (1, 4), (5, 2), (23, 20)])
def test_every_clip_is_in_one_step_of_an_epoch(count, size):
    for epoch in range(3):
        order = listed((named(count),), size=size).order(epoch)
        assert shown(order) == Counter(ClipRef(0, one) for one in named(count))


@pytest.mark.parametrize(
    ("count", "size", "steps"), [(7, 3, [3, 4]), (9, 4, [4, 5]), (8, 3, [3, 3, 2]), (1, 3, [1]), (4, 3, [4])]
)
def test_a_last_single_clip_joins_the_step_before(count, size, steps):
    assert [len(step) for step in listed((named(count),), size=size).order(0)] == steps
    assert listed((named(count),), size=size).steps(5) == 5 * len(steps)


@pytest.mark.parametrize("weight", [2, 3])
def test_a_whole_weight_shows_each_clip_that_often(weight):
    counts = shown(listed((named(10), weight), size=4).order(3))
    assert set(counts.values()) == {weight} and len(counts) == 10


def test_a_weight_of_a_half_shows_half_of_the_clips_and_the_other_half_the_next_epoch():
    order = listed((named(20), 0.5), size=4)
    halves = [set(shown(order.order(epoch))) for epoch in range(12)]
    assert all(len(half) == 10 for half in halves)
    everything = {ClipRef(0, one) for one in named(20)}
    assert all(halves[epoch] | halves[epoch + 1] == everything for epoch in range(0, 12, 2))
    assert len({frozenset(half) for half in halves}) > 6


@pytest.mark.parametrize(("weight", "count"), [(0.01, 6), (0.05, 6), (0.3, 7), (1 / 3, 10)])
def test_a_small_weight_gives_every_clip_its_turn(weight, count):
    order = listed((named(count), weight), (named(4, "d"), 1), size=3)
    epochs = round(3 * 1 / weight)
    seen = Counter(ref for epoch in range(epochs) for ref in shown(order.order(epoch)) if ref.source == 0)
    assert len(seen) == count and set(seen.values()) <= {2, 3, 4}


def test_a_weight_that_shows_nothing_has_no_steps():
    assert listed((named(6), 0.01), size=3).steps(2) == 0


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 4), (5, 4), (9, 4), (11, 4), (6, 5), (7, 2)])
def test_steps_are_counted_without_drawing_them(count, size):
    order = listed((named(count),), size=size)
    assert order.steps(3) == sum(len(order.order(epoch)) for epoch in range(3))


def test_a_weight_of_one_and_a_half_shows_all_and_half_of_them_again():
    counts = shown(listed((named(20), 1.5), size=4).order(0))
    assert Counter(counts.values()) == {1: 10, 2: 10}


def test_each_source_is_shown_by_its_own_weight():
    counts = shown(listed((named(8), 2.0), (named(6, "d"), 0.5), size=5).order(1))
    assert sum(count for ref, count in counts.items() if ref.source == 0) == 16
    assert sum(count for ref, count in counts.items() if ref.source == 1) == 3


@settings(max_examples=150, deadline=None)
@given(
    first=st.integers(1, 9),
    second=st.integers(0, 5),
    shared=st.integers(0, 5),
    weights=st.tuples(st.sampled_from([0.5, 1, 1.5, 2, 3]), st.sampled_from([1, 2, 2.5])),
    size=st.integers(2, 6),
    seed=st.integers(0, 20),
)
def test_no_step_shows_a_clip_id_twice_and_nothing_is_lost(first, second, shared, weights, size, seed):
    here = named(first)
    there = here[: min(shared, first)] + named(second, "d")
    order = listed((here, weights[0]), (there, weights[1]), size=size, seed=seed).order(0)
    for step in order:
        assert len({ref.clip_id for ref in step}) == len(step) <= size + 1
    expected = sum(len(ids) * int(w) + int(w % 1 * len(ids)) for ids, w in ((here, weights[0]), (there, weights[1])))
    assert sum(map(len, order)) == expected


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again = listed((named(30),), size=5), listed((named(30),), size=5, rank=1, processes=2)
    expected = [first.order(epoch) for epoch in range(4)]
    assert [again.order(epoch) for epoch in (3, 1, 2, 0)] == [expected[epoch] for epoch in (3, 1, 2, 0)]
    assert expected[0] != expected[1]
    assert expected[0] != listed((named(30),), size=5, seed=1).order(0)


def test_stable_integers_never_change():
    """Written down so that a change of Python or platform that would reorder every run is noticed."""
    assert stable_integer(0, 3, "v_x_seg_0_10") == 861_332_479_008_199_246


@pytest.mark.parametrize("as_jpeg", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_shares_of_all_processes_together_are_the_batch(two_sources, processes, as_jpeg):
    whole = list(batches(two_sources, as_jpeg=as_jpeg).stream(0, 0, 2))
    shares = [
        list(batches(two_sources, rank=rank, processes=processes, as_jpeg=as_jpeg).stream(0, 0, 2))
        for rank in range(processes)
    ]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert torch.equal(torch.cat([bytes_of(part.frames)[0] for part in parts]), bytes_of(batch.frames)[0])
        sizes = [len(part.frames.lengths) if as_jpeg else len(part.frames) for part in parts]
        assert all(part.frame_counts == tuple(sizes) for part in parts)
        assert batch.frame_counts == (sum(sizes),)
        assert all(part.layout.clip_ids == batch.layout.clip_ids for part in parts)
        assert all(torch.equal(part.layout.frame_index, batch.layout.frame_index) for part in parts)
        clips = [len(batch.layout.clip_ids) * (r + 1) // processes for r in range(processes)]
        assert max(np.diff([0, *clips])) - min(np.diff([0, *clips])) <= 1


@pytest.mark.parametrize(("epoch", "number"), [(0, 0), (0, 2), (1, 0), (1, 1), (2, 2), (3, 0)])
def test_a_stream_from_a_position_is_the_tail_of_the_whole_one(two_sources, epoch, number):
    whole = [b for b in batches(two_sources).stream(0, 0, 3) if (b.epoch, b.number) >= (epoch, number)]
    tail = list(batches(two_sources).stream(epoch, number, 3))
    assert len(tail) == len(whole) and (tail or epoch == 3)
    assert all(same_batch(one, other) for one, other in zip(whole, tail, strict=True))


def test_steps_are_numbered_from_zero_in_each_epoch(two_sources):
    places = [(b.epoch, b.number) for b in batches(two_sources).stream(0, 0, 2)]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_the_layout_says_where_each_frame_and_text_belongs(two_sources):
    annotations, table = annotations_of(two_sources, AdaptOptions())
    made = Batches(two_sources, annotations, size=4, seed=0)
    refs = [ClipRef(0, "c01"), ClipRef(1, "d00"), ClipRef(0, "c06"), ClipRef(1, "c06")]
    layout = made.layout(refs, 0)
    assert layout.clip_ids == ("c01", "d00", "c06", "c06")
    assert layout.frame_index.tolist() == [
        [[0, 1], [2, 3], [-1, -1]],
        [[4, -1], [5, -1], [6, -1]],
        [[7, 8], [9, 10], [-1, -1]],
        [[11, -1], [12, -1], [13, -1]],
    ]
    assert not layout.is_dense
    assert layout.clip_numbers.tolist() == [0, 1, 2, 2]
    said = [[table[layout.text_rows[row]] if row >= 0 else None for row in clip] for clip in layout.positives.tolist()]
    assert said == [
        ["c01 does 0", "c01 does 1", None],
        ["d00 does 0", "d00 does 1", "d00 does 2"],
        ["c06 does 0", "c06 does 1", None],
        ["c06 does 0", "c06 does 1", "c06 does 2"],
    ]
    assert torch.equal(layout.positives[2, :2], layout.positives[3, :2])  # equal texts, equal rows
    assert layout.text_rows.tolist() == sorted(set(layout.text_rows.tolist()))


def test_a_batch_of_one_kind_of_clip_is_dense(two_sources):
    for refs in ([ClipRef(0, "c00"), ClipRef(0, "c01")], [ClipRef(1, "d00"), ClipRef(1, "d01")]):
        layout = batches(two_sources).layout(refs, 0)
        assert layout.is_dense and layout.frame_index.flatten().tolist() == list(range(layout.frame_index.numel()))


def test_frames_are_in_the_order_of_the_layout(two_sources):
    for batch in batches(two_sources).stream(0, 0, 1):
        refs = batches(two_sources).order(0)[batch.number]
        for row, ref in enumerate(refs):
            index = batch.layout.frame_index[row]
            expected = two_sources[ref.source].frames.read(ref.clip_id).reshape(-1, 8, 8, 3)
            assert np.array_equal(batch.frames[index[index >= 0]].numpy(), expected)


def with_negatives(folder):
    prompts = [
        event("a", 0, "p0", [("verb-role", "n0"), ("role-noun", "n1"), ("verb-role", "p0")]),
        event("a", 1, "p1"),
        event("b", 0, "p0", [("role-noun", "n2")]),
    ]
    return opened([write_small_source(folder, "s", ["a", "b"], prompts=prompts)])


def test_negatives_are_padded_and_keep_their_kind(tmp_path):
    sources = with_negatives(tmp_path)
    annotations, table = annotations_of(sources, AdaptOptions())
    layout = Batches(sources, annotations, size=2, seed=0).layout([ClipRef(0, "b"), ClipRef(0, "a")], 0)

    def said(row):
        return table[layout.text_rows[row]] if row >= 0 else None

    assert [[[said(n) for n in e] for e in c] for c in layout.negatives.tolist()] == [
        [["n2", None], [None, None]],
        [["n0", "n1"], [None, None]],
    ]
    assert layout.kinds.tolist() == [[[0, -1], [-1, -1]], [[1, 0], [-1, -1]]]  # role-noun is 0, verb-role 1
    assert layout.positives.tolist()[0][1] == -1
    assert sorted(table[row] for row in layout.text_rows) == ["n0", "n1", "n2", "p0", "p1"]


@pytest.fixture(scope="module")
def annotated_thrice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thrice")
    prompts = [event(c, 0, f"{c} by {a}", annotation=a) for c in named(12) for a in range(3)]
    return opened([write_small_source(folder, "s", named(12), events=1, per_event=1, prompts=prompts)])


def chosen(sources, seed, epoch):
    annotations, table = annotations_of(sources, AdaptOptions())
    made = Batches(sources, annotations, size=4, seed=seed)
    layout = made.layout([ClipRef(0, one) for one in named(12)], epoch)
    return [table[layout.text_rows[row]] for row in layout.positives[:, 0]]


def test_one_of_several_annotations_is_chosen_by_seed_epoch_and_clip(annotated_thrice):
    first = chosen(annotated_thrice, 0, 0)
    assert chosen(annotated_thrice, 0, 0) == first
    assert len({text.rpartition(" ")[2] for text in first}) > 1  # differs from clip to clip
    assert chosen(annotated_thrice, 0, 1) != first != chosen(annotated_thrice, 1, 0)
    seen = {text for epoch in range(30) for text in chosen(annotated_thrice, 0, epoch)}
    assert len(seen) == 36


def test_a_clip_of_two_annotations_in_a_batch_has_the_texts_of_one(annotated_thrice):
    annotations, _ = annotations_of(annotated_thrice, AdaptOptions())
    layout = Batches(annotated_thrice, annotations, size=4, seed=0).layout([ClipRef(0, "c00")], 0)
    assert len(layout.text_rows) == 1


def test_jpeg_bytes_decode_to_the_frames(two_sources):
    plain = list(batches(two_sources).stream(0, 0, 1))
    stored = list(batches(two_sources, as_jpeg=True).stream(0, 0, 1))
    for one, other in zip(plain, stored, strict=True):
        decoded = decoded_on(CPU, other.frames, 8)
        assert decoded.shape == one.frames.shape and decoded.dtype == torch.uint8
        assert (decoded.int() - one.frames.int()).abs().max() <= 2


def test_workers_read_the_same_batches(two_sources):
    here = list(batches(two_sources).stream(0, 1, 2))
    there = list(batches(two_sources, workers=2).stream(0, 1, 2))
    assert len(here) == len(there) == 5
    assert all(same_batch(one, other) for one, other in zip(here, there, strict=True))


def damaged_source(folder):
    """The pictures of clip c01 are overwritten with zeros."""
    files = write_small_source(folder, "s", named(3))
    with h5py.File(files.frames[0], "r+") as file:
        offsets = file["jpeg_offsets"][:]
        file["jpeg_bytes"][offsets[4] : offsets[8]] = 0
    return opened([files])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_clip_is_told_by_its_id_whoever_reads_it(tmp_path, workers):
    sources = damaged_source(tmp_path)
    with pytest.raises(InputError, match="^clip c01: .*s.h5 is damaged: ") as caught:
        list(batches(sources, size=3, workers=workers).stream(0, 0, 1))
    assert caught.value.hint == "extract again" and "\n" not in caught.value.message
    assert caught.value.exit_code == 3


def test_the_first_of_several_failures_is_the_one_that_is_told():
    data = FrameDataset([Listed([])], as_jpeg=False)
    errors = [InputError("first", "a"), InputError("second", "b")]
    assert data.join([torch.zeros(1, 2, 2, 3, dtype=torch.uint8), *errors]) is errors[0]


def test_a_layout_moves_all_but_the_rows_that_are_looked_up(two_sources):
    layout = batches(two_sources).layout([ClipRef(0, "c00"), ClipRef(1, "d00")], 0)
    moved = layout.to(torch.device("meta"))
    kept = {name for name, value in vars(moved).items() if torch.is_tensor(value) and value.device.type == "cpu"}
    assert kept == {"text_rows"} and moved.clip_ids == layout.clip_ids


def test_prompts_files_of_the_helper_are_real(tmp_path):
    lines = write_small_prompts(tmp_path / "p.jsonl", [event("a", 0)]).read_text().splitlines()
    assert json.loads(lines[0])["format"] == "figclip-prompts" and json.loads(lines[1])["clip_id"] == "a"
