"""Sources: which clips are trained on, held out, left out and counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sources import event, opened, write_small_frames, write_small_prompts, write_small_source

from figclip_cli.adapt.sources import ClipLists, Coverage, SourceFiles, open_sources
from figclip_cli.errors import InputError, UsageError
from figclip_cli.reporting import SilentReporter

IDS = [f"c{number:02d}" for number in range(20)]


class Notes(SilentReporter):
    def __init__(self):
        self.lines = []

    def info(self, message):
        self.lines.append(message)

    warn = info


def listed(folder, name, clip_ids):
    (folder / f"{name}.txt").write_text("\n".join(clip_ids) + "\n")
    return folder / f"{name}.txt"


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    return write_small_source(tmp_path_factory.mktemp("twenty"), "s", IDS, events=1, per_event=1)


def ids_of(files, lists=None, **options):
    return [source.clip_ids for source in opened(files, lists, **options)]


def test_without_lists_every_clip_with_frames_and_prompts_is_used(twenty):
    (source,) = opened([twenty])
    assert source.clip_ids == tuple(IDS) and source.validation_ids == () and source.weight == 1.0
    assert {one.clip_id for one in source.events} == set(IDS)


def test_a_clip_on_any_exclusion_list_is_never_trained_on(twenty, tmp_path):
    lists = ClipLists(exclude=(listed(tmp_path, "a", IDS[:3]), listed(tmp_path, "b", ["c02.mp4", "c05", "unknown"])))
    (source,) = opened([twenty], lists)
    assert set(source.clip_ids) == set(IDS) - {"c00", "c01", "c02", "c05"}
    assert not {one.clip_id for one in source.events} & {"c00", "c01", "c02", "c05"}


def test_held_out_clips_are_not_trained_on_and_their_prompts_are_kept(twenty, tmp_path):
    (source,) = opened([twenty], ClipLists(validation=listed(tmp_path, "v", ["c19", "c01", "unknown"])))
    assert source.validation_ids == ("c01", "c19")
    assert set(source.clip_ids) == set(IDS) - {"c01", "c19"}
    assert {"c01", "c19"} <= {one.clip_id for one in source.events}


def test_only_the_clips_of_the_lists_are_used(twenty, tmp_path):
    lists = ClipLists(only=(listed(tmp_path, "a", IDS[:2]), listed(tmp_path, "b", ["c07", "unknown"])))
    assert ids_of([twenty], lists) == [("c00", "c01", "c07")]


def test_a_smaller_share_is_a_part_of_a_larger_one(twenty):
    shares = [set(ids_of([twenty], fraction=f, seed=5)[0]) for f in (0.05, 0.1, 0.3, 0.55, 1.0)]
    assert [len(one) for one in shares] == [1, 2, 6, 11, 20]
    assert all(small < large for small, large in zip(shares, shares[1:], strict=False))


def test_the_share_depends_on_the_seed_and_on_ids_alone(twenty, tmp_path):
    first = ids_of([twenty], fraction=0.3, seed=0)[0]
    assert first == ids_of([twenty], fraction=0.3, seed=0)[0]
    assert len({ids_of([twenty], fraction=0.3, seed=seed)[0] for seed in range(8)}) > 4
    backwards = write_small_source(tmp_path, "s", IDS[::-1], events=1, per_event=1)
    assert ids_of([backwards], fraction=0.3, seed=0)[0] == first


def test_a_share_of_nearly_nothing_is_one_clip(twenty):
    assert len(ids_of([twenty], fraction=1e-9)[0]) == 1


def test_the_share_is_of_the_clips_that_the_lists_leave(twenty, tmp_path):
    lists = ClipLists(exclude=(listed(tmp_path, "x", IDS[:10]),))
    used = ids_of([twenty], lists, fraction=0.5)[0]
    assert len(used) == 5 and set(used) <= set(IDS[10:])


@settings(max_examples=60, deadline=None)
@given(
    excluded=st.sets(st.sampled_from(IDS), max_size=12),
    held_out=st.sets(st.sampled_from(IDS), max_size=4),
    only=st.none() | st.sets(st.sampled_from(IDS), min_size=1, max_size=15),
    fraction=st.sampled_from([0.1, 0.5, 1.0]),
    seed=st.integers(0, 3),
)
def test_no_excluded_or_held_out_id_is_ever_trained_on_and_every_clip_is_counted(
    twenty, tmp_path_factory, excluded, held_out, only, fraction, seed
):
    folder = tmp_path_factory.mktemp("lists")
    lists = ClipLists(
        only=() if only is None else (listed(folder, "only", only),),
        exclude=(listed(folder, "x", excluded),) if excluded else (),
        validation=listed(folder, "v", held_out) if held_out else None,
    )
    left = (set(IDS) if only is None else only) - excluded - held_out
    if not left:
        with pytest.raises(InputError, match="is left to train on"):
            opened([twenty], lists, fraction=fraction, seed=seed)
        return
    (source,), coverage = open_sources([twenty], lists, fraction=fraction, seed=seed)
    used = set(source.clip_ids)
    assert used <= left and len(used) == max(1, round(fraction * len(left)))
    assert set(source.validation_ids) == held_out
    assert (coverage.used, coverage.excluded, coverage.validation) == (len(used), len(excluded), len(held_out))
    assert coverage.unused == 20 - len(excluded | held_out) - len(used)


def test_the_counts_are_told_in_one_line(tmp_path):
    prompts = [event(one) for one in IDS]
    frames = write_small_frames(
        tmp_path / "f.h5", [*IDS[:16], "extra"], events=1, per_event=1, status={"c00": "short", "c01": "failed"}
    )
    files = SourceFiles((frames,), write_small_prompts(tmp_path / "p.jsonl", prompts))
    lists = ClipLists(
        exclude=(listed(tmp_path, "x", ["c02", "c19", "c00"]),), validation=listed(tmp_path, "v", IDS[3:6])
    )
    notes = Notes()
    _, coverage = open_sources([files], lists, fraction=0.5, seed=0, reporter=notes)
    assert coverage == Coverage(
        prompts=20, frames=15, not_ok=2, excluded=1, validation=3, unused=5, used=5, without_frames=4
    )
    assert notes.lines == [
        "excluded: 1 clips dropped, of 3 on the lists",
        "held out: 3 clips, of 3 on the list",
        "training on 5 of 20 annotated clips (25.0 %); 4 without frames; 2 short or failed; 1 excluded; "
        "3 held out for validation; 5 left out by --clips or --fraction",
    ]


def test_counts_that_are_zero_are_not_told():
    assert Coverage(4, 4, 0, 0, 0, 0, 4, 0).describe() == "training on 4 of 4 annotated clips (100.0 %)"


def test_an_exclusion_list_that_names_no_clip_at_hand_is_warned_of(twenty, tmp_path):
    notes = Notes()
    lists = ClipLists(exclude=(listed(tmp_path, "x", ["other-id"]),))
    open_sources([twenty], lists, fraction=1.0, seed=0, reporter=notes)
    assert "no clip on the lists of --exclude, such as 'other-id', is in the frames and prompts" in notes.lines


def test_two_sources_are_chosen_from_and_counted_together(twenty, tmp_path):
    other = write_small_source(tmp_path, "t", ["c00", "d00", "d01"], events=3, weight=0.5)
    lists = ClipLists(exclude=(listed(tmp_path, "x", ["c00", "d01"]),))
    (first, second), coverage = open_sources([twenty, other], lists, fraction=1.0, seed=0)
    assert "c00" not in first.clip_ids and second.clip_ids == ("d00",)
    assert (first.weight, second.weight) == (1.0, 0.5)
    assert (coverage.prompts, coverage.excluded, coverage.used) == (23, 3, 20)


def test_a_validation_clip_may_be_of_one_source_alone(twenty, tmp_path):
    other = write_small_source(tmp_path, "t", ["d00", "d01"])
    first, second = opened([twenty, other], ClipLists(validation=listed(tmp_path, "v", ["d00"])))
    assert first.validation_ids == () and second.validation_ids == ("d00",) and second.clip_ids == ("d01",)


def test_a_source_of_which_nothing_is_left_is_refused_by_its_name(twenty, tmp_path):
    other = write_small_source(tmp_path, "t", ["d00"])
    with pytest.raises(InputError, match="no clip of .*t.jsonl is left to train on") as caught:
        opened([twenty, other], ClipLists(exclude=(listed(tmp_path, "x", ["d00"]),)))
    assert all(flag in caught.value.hint for flag in ("--clips", "--exclude", "--validation", "--fraction"))


def test_validation_clips_without_frames_or_prompts_are_refused(twenty, tmp_path):
    with pytest.raises(InputError, match="none of the 2 clips of .*v.txt has frames and prompts"):
        opened([twenty], ClipLists(validation=listed(tmp_path, "v", ["x", "y"])))


def test_frames_and_prompts_without_a_common_clip_show_one_of_each(tmp_path):
    frames = write_small_frames(tmp_path / "f.h5", ["a", "b"])
    prompts = write_small_prompts(tmp_path / "p.jsonl", [event("x")])
    with pytest.raises(InputError, match="no clip in common: 'a' and 1 more in the frames, 'x' and 0 more in the pro"):
        opened([SourceFiles((frames,), prompts)])


def test_frames_of_which_none_is_usable_are_refused(tmp_path):
    frames = write_small_frames(tmp_path / "f.h5", ["a"], status={"a": "short"})
    prompts = write_small_prompts(tmp_path / "p.jsonl", [event("a")])
    with pytest.raises(InputError, match="no usable clip in the frames, 'a'"):
        opened([SourceFiles((frames,), prompts)])


@pytest.mark.parametrize("name", ["f.h5", "p.jsonl", "x.txt"])
def test_a_missing_file_is_named(twenty, tmp_path, name):
    files = SourceFiles(
        (tmp_path / name,) if name == "f.h5" else twenty.frames,
        tmp_path / name if name == "p.jsonl" else twenty.prompts,
    )
    with pytest.raises(InputError, match=name):
        opened([files], ClipLists(exclude=(tmp_path / name,) if name == "x.txt" else ()))


def timed(folder, **change):
    """Clip a: events of two seconds each; their frames are at 0.5, 1.5 and 2.5, 3.5 seconds."""
    times = {0: (0.0, 2.0), 1: (2.0, 4.0)} | {int(key[1:]): value for key, value in change.items()}
    prompts = [event("a", index, start=start, end=end) for index, (start, end) in times.items()]
    return write_small_source(folder, "s", ["a"], prompts=prompts, seconds=4.0)


@pytest.mark.parametrize(
    "change",
    [{}, {"e1": (3.0, 3.0)}, {"e0": (1.0, 1.0)}, {"e1": (None, None)}, {"e1": (None, 1.0)}, {"e7": (50.0, 60.0)}],
)
def test_events_whose_frames_are_of_their_time_or_nearly_are_taken(tmp_path, change):
    assert opened([timed(tmp_path, **change)])[0].clip_ids == ("a",)


@pytest.mark.parametrize(
    ("change", "event_number"), [({"e1": (2.0, 2.99)}, 1), ({"e1": (3.01, 4.0)}, 1), ({"e0": (2.0, 4.0)}, 0)]
)
def test_events_whose_frames_are_of_other_times_are_refused(tmp_path, change, event_number):
    with pytest.raises(InputError, match=f"1 of 2 events have .*: event {event_number} of clip a is .* frames are of"):
        opened([timed(tmp_path, **change)])


def test_times_are_counted_from_where_a_clip_begins_in_its_file(tmp_path):
    prompts = [event("a", 0, start=0.0, end=2.0), event("a", 1, start=2.0, end=4.0)]
    assert opened([write_small_source(tmp_path, "s", ["a"], prompts=prompts, start=60.0)])[0].clip_ids == ("a",)


def test_the_times_of_clips_that_are_not_used_do_not_matter(tmp_path):
    prompts = [event("a", start=90.0, end=99.0), event("b")]
    files = write_small_source(tmp_path, "s", ["a", "b"], prompts=prompts)
    with pytest.raises(InputError, match="1 of 1 events"):
        opened([files])
    assert ids_of([files], ClipLists(exclude=(listed(tmp_path, "x", ["a"]),))) == [("b",)]


@pytest.mark.parametrize("weight", [0, -1, 1001, float("nan"), float("inf")])
def test_a_weight_that_cannot_be_meant_is_refused(twenty, weight):
    with pytest.raises(UsageError, match="weight of .* must be above 0 and at most 1000"):
        SourceFiles(twenty.frames, twenty.prompts, weight)


def test_a_source_is_described_by_content_and_not_by_path(twenty, tmp_path):
    first = opened([twenty])[0].describe()
    moved = write_small_source(tmp_path, "elsewhere", IDS, events=1, per_event=1)
    assert opened([moved])[0].describe() == json.loads(json.dumps(first))
    excluding = opened([twenty], ClipLists(exclude=(listed(tmp_path, "x", ["c00"]),)))[0].describe()
    assert excluding["clips"] == 19 and excluding["clips_sha256"] != first["clips_sha256"]
    holding = opened([twenty], ClipLists(validation=listed(tmp_path, "v", ["c00"])))[0].describe()
    assert holding["validation_sha256"] != first["validation_sha256"]
