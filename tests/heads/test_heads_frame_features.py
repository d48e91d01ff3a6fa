"""Features of frames are the model's own, kept for next time; tokens are those that adapt writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from figclip_cli.errors import InputError
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.visuals import StoredClips, encoding
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.heads.frame_features import event_features, frame_features
from figclip_cli.models.adapted import attach_run, load_base, load_contextualizer
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

STORED = PROTOCOLS["figclip"]


@pytest.fixture(scope="module")
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), STORED)


def expected_frames(clip, reader, clip_id):
    pixels = reader.read(clip_id)
    with torch.no_grad():
        return clip.encode_frames(torch.from_numpy(pixels.reshape(-1, *pixels.shape[2:]))).float()


def test_each_frame_has_the_feature_that_the_model_gives_it(clip, clips):
    clip_ids = clips.reader.clip_ids[::-1]
    found = frame_features(clip, clips, clip_ids)
    assert found.clip_ids == clip_ids and not found.failed and found.width == 32
    for clip_id in clip_ids:
        expected = expected_frames(clip, clips.reader, clip_id)
        assert torch.allclose(found.frames_of(clip_id), expected, rtol=1e-4, atol=1e-5)
        assert found.pts_seconds(clip_id).shape == (20,)
    assert torch.equal(found.equal(clip_ids[:2])[1].flatten(0, 1), found.frames_of(clip_ids[1]))


def test_features_are_kept_and_not_encoded_again(clip, clips, tmp_path, monkeypatch):
    first = frame_features(clip, clips, clips.reader.clip_ids, cache=tmp_path)
    monkeypatch.setattr(encoding, "_encode", None)
    again = frame_features(clip, clips, clips.reader.clip_ids[:3], cache=tmp_path)
    for clip_id in again.clip_ids:
        assert torch.equal(first.frames_of(clip_id), again.frames_of(clip_id))


def test_clips_of_other_lengths_are_read_one_by_one(clip, inputs, tmp_path):
    extract(
        [inputs / "vidsitu"], tmp_path / "frames.h5", recipe=SamplingRecipe(size=32, policy="fps", fps=1), workers=1
    )
    ragged = StoredClips(FramesReader(tmp_path / "frames.h5"), STORED)
    found = frame_features(clip, ragged, ragged.reader.clip_ids[:2])
    clip_id = found.clip_ids[1]
    assert found.frames_of(clip_id).shape == (10, 32)
    assert np.allclose(found.pts_seconds(clip_id), np.arange(10), atol=0.11)
    assert found.duration_seconds(clip_id) == pytest.approx(10, abs=0.2)
    assert torch.allclose(found.frames_of(clip_id), expected_frames(clip, ragged.reader, clip_id), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="differ in length"):
        event_features(found, found.clip_ids)


def test_without_a_contextualizer_events_are_the_mean_of_their_frames(clip, clips):
    found = frame_features(clip, clips, clips.reader.clip_ids)
    made = event_features(found, found.clip_ids[:4])
    frames = expected_frames(clip, clips.reader, found.clip_ids[2]).reshape(5, 4, -1)
    assert torch.allclose(made.events[2], normalize(frames.mean(1), dim=-1), atol=1e-5)
    assert torch.allclose(made.videos[2], normalize(frames.mean((0, 1)), dim=-1), atol=1e-5)


def test_tokens_are_those_of_the_runs_contextualizer_whatever_is_beside_them(prepared, finished_run, clips):
    clip = attach_run(load_base(finished_run), finished_run)
    contextualizer = load_contextualizer(finished_run)
    found = frame_features(clip, clips, clips.reader.clip_ids)
    made = event_features(found, found.clip_ids, contextualizer)
    for row, clip_id in enumerate(found.clip_ids):
        frames = expected_frames(clip, clips.reader, clip_id).reshape(1, 5, 4, -1)
        with torch.no_grad():
            video, events = contextualizer(frames)
        assert torch.allclose(made.videos[row], normalize(video[0], dim=-1), atol=1e-5)
        assert torch.allclose(made.events[row], normalize(events[0], dim=-1), atol=1e-5)
        alone = event_features(found, [clip_id], contextualizer)
        assert torch.equal(alone.events[0], made.events[row]) and torch.equal(alone.videos[0], made.videos[row])


def test_clips_that_are_not_there_are_named_and_none_at_all_is_refused(clip, clips):
    found = frame_features(clip, clips, [clips.reader.clip_ids[0], "v_nowhere"])
    assert found.clip_ids == clips.reader.clip_ids[:1]
    assert found.failed == {"v_nowhere": "not in the frames file"}
    with pytest.raises(InputError, match="not one of 1 clips .*v_nowhere"):
        frame_features(clip, clips, ["v_nowhere"])
    with pytest.raises(InputError, match="no clip was asked for"):
        frame_features(clip, clips, [])


def test_frames_that_the_contextualizer_was_not_built_for_are_refused(clip, inputs, finished_run, tmp_path):
    recipe = SamplingRecipe(size=32, events=6, frames_per_event=1)
    extract([inputs / "vidsitu"], tmp_path / "frames.h5", recipe=recipe, workers=1)
    other = StoredClips(FramesReader(tmp_path / "frames.h5"), STORED)
    found = frame_features(clip, other, other.reader.clip_ids[:1])
    with pytest.raises(InputError, match="contextualizer cannot read these frames"):
        event_features(found, found.clip_ids, load_contextualizer(finished_run))
