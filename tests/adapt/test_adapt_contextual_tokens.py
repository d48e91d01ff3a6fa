"""tokens.h5: the contextualizer's own tokens, under the right clips."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from figclip_cli.adapt.batches import Layout
from figclip_cli.adapt.contextual_tokens import read_tokens, write_tokens
from figclip_cli.errors import InputError
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer

WIDTH, MOST_EVENTS = 16, 3


@pytest.fixture
def contextualizer():
    torch.manual_seed(0)
    config = ContextualizerConfig(width=WIDTH, layers=2, max_events=MOST_EVENTS, max_frames_per_event=2)
    return VideoContextualizer(config).eval()


def batch(shapes, seed):
    """Clips by id as (events, frames an event); the prompts do not matter here."""
    events, frames = (max(shape[i] for shape in shapes.values()) for i in (0, 1))
    index, first = torch.full((len(shapes), events, frames), -1), 0
    for row, (own, of_event) in enumerate(shapes.values()):
        index[row, :own, :of_event] = first + torch.arange(own * of_event).view(own, of_event)
        first += own * of_event
    none = torch.full((len(shapes), events, 0), -1)
    positives = torch.full((len(shapes), events), -1)
    nothing, numbers = torch.empty(0, dtype=torch.int64), torch.arange(len(shapes))
    layout = Layout(tuple(shapes), index, positives, none, none, nothing, nothing, numbers, numbers, is_dense=False)
    return layout, torch.randn(first, WIDTH, generator=torch.Generator().manual_seed(seed))


BATCHES = [
    batch({"d": (3, 2), "b": (2, 2)}, 0),
    batch({"c": (1, 1), "a": (2, 1)}, 1),
    batch({"e": (2, 2), "g": (2, 1)}, 2),
]


def expected_of(contextualizer, clip_id):
    """The tokens of one clip, by itself and without padding."""
    for layout, features in BATCHES:
        if clip_id in layout.clip_ids:
            index = layout.frame_index[layout.clip_ids.index(clip_id)]
            index = index[(index >= 0).any(1)][:, (index >= 0).any(0)]
            with torch.no_grad():
                video, events = contextualizer(features[index][None])
            return normalize(video[0], dim=-1).numpy(), normalize(events[0], dim=-1).numpy()
    raise AssertionError(clip_id)


def test_what_is_read_back_is_what_the_contextualizer_gives_each_clip_alone(contextualizer, tmp_path):
    assert write_tokens(tmp_path / "tokens.h5", contextualizer, iter(BATCHES)) == 6
    found = read_tokens(tmp_path / "tokens.h5")
    assert found.clip_ids == ("a", "b", "c", "d", "e", "g")
    assert found.videos.dtype == found.events.dtype == np.float32 and found.event_mask.dtype == bool
    assert found.videos.shape == (6, WIDTH) and found.events.shape == (6, MOST_EVENTS, WIDTH)
    for row, clip_id in enumerate(found.clip_ids):
        video, events = expected_of(contextualizer, clip_id)
        assert np.allclose(found.videos[row], video, atol=1e-5)
        assert np.allclose(found.events[row, : len(events)], events, atol=1e-5)
        assert found.event_mask[row].tolist() == [number < len(events) for number in range(MOST_EVENTS)]


def test_tokens_have_unit_length_and_missing_events_are_no_numbers(contextualizer, tmp_path):
    write_tokens(tmp_path / "tokens.h5", contextualizer, iter(BATCHES))
    found = read_tokens(tmp_path / "tokens.h5")
    assert np.allclose(np.linalg.norm(found.videos, axis=-1), 1, atol=1e-6)
    assert np.allclose(np.linalg.norm(found.events[found.event_mask], axis=-1), 1, atol=1e-6)
    assert np.isnan(found.events[~found.event_mask]).all() and (~found.event_mask).sum() == 6


def test_a_clip_that_comes_twice_is_written_once_as_it_came_first(contextualizer, tmp_path):
    again = batch({"d": (2, 1), "f": (1, 1)}, 7)
    assert write_tokens(tmp_path / "t.h5", contextualizer, iter([*BATCHES, again])) == 7
    found = read_tokens(tmp_path / "t.h5")
    row = found.clip_ids.index("d")
    assert found.event_mask[row].all() and np.allclose(
        found.videos[row], expected_of(contextualizer, "d")[0], atol=1e-5
    )


def test_nothing_is_left_where_writing_fails(contextualizer, tmp_path):
    def batches():
        yield BATCHES[0]
        raise InputError("a clip is damaged")

    with pytest.raises(InputError, match="a clip is damaged"):
        write_tokens(tmp_path / "tokens.h5", contextualizer, batches())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="tokens file .* does not exist") as caught:
        read_tokens(tmp_path / "tokens.h5")
    assert "--save-tokens" in caught.value.hint


def remove_events(file):
    del file["events"]


def group_for_videos(file):
    del file["videos"]
    file.create_group("videos")


def numbers_for_ids(file):
    del file["clip_id"]
    file["clip_id"] = [1, 2]


def other_format(file):
    file.attrs["format"] = "figclip-frames"


def other_version(file):
    file.attrs["format_version"] = 99


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_events, "is damaged"),
        (group_for_videos, "is damaged"),
        (numbers_for_ids, "is damaged"),
        (other_format, "is not a tokens file of this version"),
        (other_version, "is not a tokens file of this version"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(contextualizer, tmp_path, damage, message):
    path = tmp_path / "tokens.h5"
    write_tokens(path, contextualizer, iter(BATCHES))
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError, match=message) as caught:
        read_tokens(path)
    assert str(path) in caught.value.message and caught.value.exit_code == 3


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_cut_file_is_refused(contextualizer, tmp_path, keep):
    path = tmp_path / "tokens.h5"
    write_tokens(path, contextualizer, iter(BATCHES))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="tokens file .* is damaged"):
        read_tokens(path)
