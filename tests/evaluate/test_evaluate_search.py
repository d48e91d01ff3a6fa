"""Search: the order of a second simple implementation, ties by stored order, nothing left out in silence."""

from __future__ import annotations

import math
import shutil

import h5py
import numpy as np
import pytest
import torch
from samples import restate
from torch.nn.functional import normalize

from figclip_cli.errors import InputError
from figclip_cli.evaluate import search as module
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.protocols import PROTOCOLS, ProtocolOptions
from figclip_cli.evaluate.search import best, ranks_of, search
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.pooling import pool_frames
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SilentReporter

STORED = PROTOCOLS["figclip"]
QUERIES = ("a man walks", "a woman in red pushes a car", "the dog")


class Listener(SilentReporter):
    def __init__(self):
        self.remarks = []

    def info(self, message):
        self.remarks.append(message)


class Rows:
    """Features in memory, read as those on disk are."""

    def __init__(self, features):
        self.features = features

    def __len__(self):
        return len(self.features)

    def rows(self, start, stop):
        assert stop - start <= 300  # never all at once
        return self.features[start:stop]

    def take(self, index):
        return self.features[index]


def model(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), STORED)


def scores_one_at_a_time(clip, reader, texts, level):
    """(texts, looks) float64 scores and the looks, each frame and text encoded alone."""
    looks, rows = [], []
    for clip_id in reader.clip_ids:
        pixels = torch.from_numpy(reader.read(clip_id).copy())
        with torch.no_grad():
            frames = torch.cat([clip.encode_frames(one[None]) for one in pixels.flatten(0, 1)]).reshape(5, 4, -1)
        if level == "clip":
            looks.append((clip_id, None))
            rows.append(pool_frames(frames.flatten(0, 1)))
        else:
            looks += [(clip_id, event) for event in range(5)]
            rows += list(pool_frames(frames))
    features = torch.stack(rows).double()
    return torch.stack([clip.text_similarity_features([text])[0].double() @ features.T for text in texts]), looks


@pytest.mark.parametrize("level", ["clip", "event"])
def test_hits_are_the_nearest_of_a_simple_implementation(tiny_model, clips, level):
    found = search(model(tiny_model), None, clips, QUERIES, encoding=Encoding(STORED), level=level, top=4)
    expected, looks = scores_one_at_a_time(model(tiny_model), clips.reader, QUERIES, level)
    assert [one.query for one in found.found] == list(QUERIES)
    for one, scores in zip(found.found, expected, strict=True):
        order = scores.argsort(descending=True)[:4].tolist()
        assert [(hit.clip_id, hit.event_index) for hit in one.hits] == [looks[row] for row in order]
        assert [hit.score for hit in one.hits] == pytest.approx(scores[order].tolist(), abs=1e-5)
        assert [hit.rank for hit in one.hits] == [1, 2, 3, 4] and all(hit.base_rank is None for hit in one.hits)
    hit = found.found[0].hits[0]
    times = clips.reader.pts_seconds(hit.clip_id)
    shown = times.ravel() if hit.event_index is None else times[hit.event_index]
    assert list(hit.pts_seconds) == shown.tolist() and hit.source_path == clips.reader.row(hit.clip_id).source_path
    assert (found.asked, found.searched, found.missing) == (6, 6, {}) and found.model["label"] == "base"


def test_a_run_searches_and_the_base_ranks_are_those_of_the_base(finished_run, clips):
    encoding = Encoding(STORED)
    base = search(load_base(finished_run), None, clips, QUERIES, encoding=encoding, level="event", top=30)
    found = search(
        load_base(finished_run),
        finished_run,
        clips,
        QUERIES,
        encoding=encoding,
        level="event",
        top=7,
        compare_base=True,
    )
    adapted = attach_run(load_base(finished_run), finished_run)
    expected, looks = scores_one_at_a_time(adapted, clips.reader, QUERIES, "event")
    assert found.model["label"] == "adapted" and found.model["adapter_sha256"]
    moved = 0
    for one, of_base, scores in zip(found.found, base.found, expected, strict=True):
        order = scores.argsort(descending=True)[:7].tolist()
        assert [(hit.clip_id, hit.event_index) for hit in one.hits] == [looks[row] for row in order]
        rank_of = {(hit.clip_id, hit.event_index): hit.rank for hit in of_base.hits}
        assert [hit.base_rank for hit in one.hits] == [rank_of[hit.clip_id, hit.event_index] for hit in one.hits]
        moved += sum(hit.base_rank != hit.rank for hit in one.hits)
    assert moved


def test_the_protocol_decides_the_frames_and_events_need_all_of_them(tiny_model, clips):
    # 20 stored frames have no 4 midpoints among them: 20 is 5 times 4, and the middle of five parts is stored.
    protocol = ProtocolOptions(num_frames=4).resolve()
    source = StoredClips(clips.reader, protocol)
    found = search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(protocol), top=1).found[0].hits[0]
    times = clips.reader.pts_seconds(found.clip_id).ravel()
    assert list(found.pts_seconds) == times[[2, 7, 12, 17]].tolist()
    with pytest.raises(InputError, match="none for single events"):
        search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(protocol), level="event")


@pytest.fixture
def many():
    """1,000 features of which many are equal, and 3 texts."""
    generator = torch.Generator().manual_seed(0)
    distinct = normalize(torch.randn(200, 16, generator=generator), dim=-1)
    features = distinct[torch.randint(0, 200, (1000,), generator=generator)]
    return features, normalize(torch.randn(3, 16, generator=generator), dim=-1)


@pytest.mark.parametrize("top", [1, 10, 997, 2000])
def test_the_best_of_blocks_are_the_best_of_all_and_ties_keep_their_order(many, top, monkeypatch):
    features, texts = many
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 1)
    scores, rows = best(Rows(features), texts, top)
    for query, text in enumerate(texts):
        exact = [math.fsum(a * b for a, b in zip(row, text.tolist(), strict=True)) for row in features.tolist()]
        every = [float(np.float32(score)) for score in exact]
        order = sorted(range(1000), key=lambda row: (-every[row], row))
        assert rows[query].tolist() == order[:top]
        assert scores[query].tolist() == [every[row] for row in order[:top]]


def test_ranks_are_the_places_in_the_sorted_order(many, monkeypatch):
    features, texts = many
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 1)
    _, order = best(Rows(features), texts, 1000)
    rows = torch.tensor([[0, 999, 500, 256, 255]] * 3)
    ranks = ranks_of(Rows(features), texts, rows)
    assert ranks.tolist() == [[order[q].tolist().index(row) + 1 for row in rows[q].tolist()] for q in range(3)]


def test_equal_clips_tie_and_that_is_said(tiny_model, prepared, tmp_path):
    shutil.copy(prepared / "frames.h5", tmp_path / "frames.h5")
    with h5py.File(tmp_path / "frames.h5", "r+") as file:
        size = int(file["jpeg_offsets"][20])  # clips 0 and 1 get the same 20 pictures
        offsets = file["jpeg_offsets"][:]
        data = file["jpeg_bytes"][:]
        lengths = np.diff(offsets)
        lengths[20:40] = lengths[:20]
        joined = np.concatenate([data[:size], data[:size], data[offsets[40] :]])
        del file["jpeg_bytes"], file["jpeg_offsets"]
        file["jpeg_bytes"], file["jpeg_offsets"] = joined, np.concatenate([[0], np.cumsum(lengths)])
    source, listener = StoredClips(FramesReader(tmp_path / "frames.h5"), STORED), Listener()
    twins = source.reader.clip_ids[:2]
    found = search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(STORED, None, listener), top=6)
    hits = {hit.clip_id: hit for hit in found.found[0].hits}
    assert hits[twins[0]].score == hits[twins[1]].score and hits[twins[1]].rank == hits[twins[0]].rank + 1
    assert {clip_id for clip_id, hit in hits.items() if hit.is_tied} == set(twins)
    assert listener.remarks == [
        "ties: 2 of 6 hits of 'a man walks' have the score of another; what is stored first comes first"
    ]
    cut = search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(STORED), top=hits[twins[0]].rank)
    assert cut.found[0].hits[-1].is_tied and cut.found[0].hits[-1].clip_id == twins[0]


def test_clips_that_are_not_ok_or_damaged_are_listed_apart(tiny_model, prepared, tmp_path):
    shutil.copy(prepared / "frames.h5", tmp_path / "frames.h5")
    with h5py.File(tmp_path / "frames.h5", "r+") as file:
        begin, end = file["jpeg_offsets"][21:23]
        file["jpeg_bytes"][begin:end] = 0
        restate(file, "status", {3: "short"})
        ids = file["clip_id"].asstr()[:].tolist()
    source = StoredClips(FramesReader(tmp_path / "frames.h5"), STORED)
    found = search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(STORED), top=99)
    assert (found.asked, found.searched, len(found.found[0].hits)) == (6, 4, 4)
    assert list(found.missing) == [ids[3], ids[1]] and found.missing[ids[3]] == "short"
    assert found.damaged == (ids[1],) and "damaged" in found.missing[ids[1]]
    source.reader.close()
    with h5py.File(tmp_path / "frames.h5", "r+") as file:
        restate(file, "status", dict.fromkeys(range(len(file["status"])), "failed"))
    source = StoredClips(FramesReader(tmp_path / "frames.h5"), STORED)
    with pytest.raises(InputError, match=f"no clip of .*frames.h5 can be searched; the first is {ids[0]}: failed"):
        search(model(tiny_model), None, source, QUERIES[:1], encoding=Encoding(STORED))
