"""The task end to end on a tiny model: numbers by a second way, missing clips, ties of equal texts, hostile models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from samples import CLIP_IDS
from torch.nn.functional import normalize

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.retrieval import QueryRows, evaluate_retrieval
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_features import encode_distinct
from figclip_cli.reporting import SILENT


@pytest.fixture
def clip(prepared):
    return load_clip(ModelSource(str(prepared / "base-model")))


@pytest.fixture
def frames(prepared):
    return FramesReader(prepared / "frames.h5")


@pytest.fixture
def captions(prepared, tmp_path):
    """Two captions for each of five of the six clips; two captions are equal texts of different clips."""
    clip_ids = FramesReader(prepared / "frames.h5").clip_ids
    rows = [f"{clip_id},a thing number {n}" for n, clip_id in enumerate(clip_ids[:5])]
    rows += [f"{clip_id},another {n if n != 3 else 2}" for n, clip_id in enumerate(clip_ids[:5])]
    (tmp_path / "captions.csv").write_text("clip_id,caption\n" + "\n".join(rows) + "\n")
    return read_captions(tmp_path / "captions.csv")


def evaluated(clip, frames, captions, *, run=None, reporter=SILENT, **protocol):
    """The results of the task, as the command line runs it."""
    encoding = Encoding(ProtocolOptions(**protocol).resolve(), None, reporter)
    return evaluate_retrieval(
        clip, StoredClips(frames, encoding.protocol), captions, encoding=encoding, run=run
    ).results


def scores_by_hand(clip, frames, captions):
    """One clip and one text at a time."""
    clip_ids = list(dict.fromkeys(query.clip_id for query in captions.queries))
    with torch.no_grad():
        videos = []
        for clip_id in clip_ids:
            pixels = torch.from_numpy(frames.read(clip_id).reshape(-1, 32, 32, 3).copy())
            videos.append(normalize(torch.stack([clip.encode_frames(p[None])[0] for p in pixels]).mean(0), dim=-1))
        texts = [normalize(clip.encode_texts(query.texts)[0], dim=-1) for query in captions.queries]
    scores = torch.stack([torch.stack([text @ video for video in videos]) for text in texts]).numpy()
    return scores, [clip_ids.index(query.clip_id) for query in captions.queries]


def value(results, name):
    return next(metric for metric in results.metrics if metric.name == name)


def test_recall_and_ranks_equal_those_computed_one_pair_at_a_time(clip, frames, captions):
    results = evaluated(clip, frames, captions)
    scores, own = scores_by_hand(clip, frames, captions)
    scores = scores.round(6)  # equal texts scored one at a time may differ in the last bit
    ranks = [int((row > row[video]).sum()) for row, video in zip(scores, own, strict=True)]
    assert value(results, "t2v R@1").value == pytest.approx(100 * np.mean([rank == 0 for rank in ranks]))
    assert value(results, "t2v MnR").value == pytest.approx(np.mean(ranks) + 1)
    best = {v: {w: max(s[v] for s, o in zip(scores, own, strict=True) if o == w) for w in set(own)} for v in set(own)}
    others = {v: [best[v][w] for w in best if w != v] for v in best}
    back = [sum((o > best[v][v]) + (o == best[v][v]) / 2 for o in others[v]) for v in best]
    assert value(results, "v2t MnR").value == pytest.approx(np.mean(back) + 1)


def test_base_and_adapted_stand_side_by_side_with_their_difference(finished_run, frames, captions):
    results = evaluated(load_base(finished_run), frames, captions, run=finished_run)
    alone = evaluated(load_base(finished_run), frames, captions)
    adapted = evaluated(attach_run(load_base(finished_run), finished_run), frames, captions)
    assert results.adapted_name == "quick" and alone.adapted_name is None
    for metric in results.metrics:
        assert metric.base_value == value(alone, metric.name).value
        assert metric.value == value(adapted, metric.name).value
        assert metric.delta == metric.value - metric.base_value
    assert {metric.name for metric in results.metrics} == {
        f"{direction} {name}" for direction in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "MdR", "MnR", "gmean")
    }


def test_the_document_says_what_how_and_with_what(finished_run, frames, captions, tmp_path):
    results = evaluated(load_base(finished_run), frames, captions, run=finished_run)
    results.write(tmp_path / "results.json")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["n_asked"] == document["n_evaluated"] == {"clips": 5, "texts": 10}
    protocol = document["protocol"]
    assert protocol["ties"] == "average" and protocol["pooling"] == "mean-l2" and protocol["zero_shot"] is True
    assert protocol["video_to_text_multi_caption"] == "max-per-video" and protocol["frames"]["size"] == 32
    assert document["models"]["base"]["sha256"] == load_base(finished_run).sha256
    assert len(document["models"]["adapted"]["adapter_sha256"]) == 64
    assert document["seeds"] == {"bootstrap": 0, "adapt": 0} and "torch" in document["environment"]["packages"]


def test_missing_clips_shrink_nothing_quietly(clip, frames, captions, tmp_path, prepared):
    text = (tmp_path / "captions.csv").read_text() + "v_gone_seg_0_10,somebody who is not there\n"
    (tmp_path / "more.csv").write_text(text)
    results = evaluated(clip, frames, read_captions(tmp_path / "more.csv"))
    assert results.missing == {"v_gone_seg_0_10": "not in the frames file"}
    assert results.asked == {"clips": 6, "texts": 11} and results.evaluated == {"clips": 5, "texts": 10}
    assert "5 of 6 clips" in results.describe_counts()
    assert [m.value for m in results.metrics] == [m.value for m in evaluated(clip, frames, captions).metrics]


def test_no_common_clip_is_an_error(clip, frames, tmp_path):
    (tmp_path / "captions.csv").write_text("clip_id,caption\nnobody,x\n")
    with pytest.raises(
        InputError,
        match="not one of the 1 clips asked for is there: 'nobody'.* has ok clips such as",
    ):
        evaluated(clip, frames, read_captions(tmp_path / "captions.csv"))


def test_equal_texts_tie_exactly(clip, frames, tmp_path):
    """Both texts are the same, so both clips' own text ties with the other's: half a rank, never a coin toss."""
    first, second = frames.clip_ids[:2]
    (tmp_path / "captions.csv").write_text(f"clip_id,caption\n{first},same\n{second},same\n")
    results = evaluated(clip, frames, read_captions(tmp_path / "captions.csv"))
    assert value(results, "v2t MnR").value == 1.5 and value(results, "v2t R@1").value == 0.0
    assert results.protocol["tied_queries"]["base"] == {"t2v": 0, "v2t": 2}


def test_prompts_are_queries_of_clips_or_of_events(clip, frames, prepared):
    by_clip = evaluated(clip, frames, read_captions(prepared / "prompts.jsonl"))
    by_event = evaluated(clip, frames, read_captions(prepared / "prompts.jsonl", level="event"))
    assert by_clip.evaluated == {"clips": 6, "texts": 6} and by_event.evaluated == {"events": 30, "texts": 30}
    assert by_event.protocol["level"] == "event" and by_event.protocol["captions_format"] == "prompts"


def test_an_event_is_scored_by_its_own_frames(clip, frames, prepared):
    captions = read_captions(prepared / "prompts.jsonl", level="event")
    encoding = Encoding(ProtocolOptions().resolve())
    source = StoredClips(frames, encoding.protocol)
    evaluation = evaluate_retrieval(clip, source, captions, encoding=encoding)
    samples = {sample.id: sample for sample in evaluation.samples() if sample.part == "t2v"}
    scores = []
    with torch.no_grad():
        text = normalize(clip.encode_texts(captions.queries[7].texts)[0], dim=-1)  # event 2 of the second clip
        for query in captions.queries:
            pixels = torch.from_numpy(frames.read(query.clip_id)[query.event_index].copy())
            scores.append(float(text @ normalize(clip.encode_frames(pixels).mean(0), dim=-1)))
    query = captions.queries[7]
    outcome = samples[f"{query.clip_id}#{query.event_index}/0"].outcomes["base"]
    own = scores.pop(7)
    assert outcome.margin == pytest.approx(own - max(scores), abs=1e-5)
    assert outcome.rank == pytest.approx(sum(score > own for score in scores))


@pytest.mark.parametrize("chosen", [[0], [3, 1], [5, 0, 5, 2]])
def test_a_query_of_several_texts_is_their_mean(clip, prepared, chosen):
    captions = read_captions(prepared / "prompts.jsonl")
    texts = encode_distinct(clip, [text for query in captions.queries for text in query.texts])
    rows = QueryRows(texts, captions.queries)
    expected = [
        normalize(texts.gather(texts.rows(captions.queries[row].texts)).double().mean(0), dim=-1) for row in chosen
    ]
    assert torch.allclose(rows.take(torch.tensor(chosen)).double(), torch.stack(expected), atol=1e-6)
    assert torch.equal(rows.rows(0, 6)[chosen], rows.take(torch.tensor(chosen)))


@pytest.mark.parametrize("events", [3, 10])
def test_frames_cut_into_another_number_of_events_are_refused(clip, prepared, tmp_path, events):
    """With more events than the annotation, each prompt would be scored against other seconds of the clip."""
    recipe = SamplingRecipe(size=32, events=events, frames_per_event=2)
    extract([prepared / "vidsitu"], tmp_path / "f.h5", recipe=recipe, workers=1)
    (tmp_path / "ids.txt").write_text(CLIP_IDS[0])
    for ids in (None, tmp_path / "ids.txt"):
        captions = read_captions(prepared / "prompts.jsonl", level="event", ids=ids)
        with pytest.raises(InputError, match=f"the annotation has 5 events a clip, .* has {events}"):
            evaluated(clip, FramesReader(tmp_path / "f.h5"), captions)
    whole = read_captions(prepared / "prompts.jsonl")
    assert evaluated(clip, FramesReader(tmp_path / "f.h5"), whole).evaluated == {"clips": 6, "texts": 6}


@pytest.mark.parametrize("pooling", ["mean-l2", "l2-mean-l2", "l2-mean"])
def test_pooling_is_an_option_and_is_recorded(clip, frames, captions, pooling):
    results = evaluated(clip, frames, captions, pooling=pooling)
    assert results.protocol["pooling"] == pooling


def test_a_model_whose_features_are_not_finite_is_refused(clip, frames, captions):
    with torch.no_grad():
        clip.model.visual.proj.fill_(float("nan"))
    with pytest.raises(VerificationError, match="not finite"):
        evaluated(clip, frames, captions)


def test_texts_over_the_context_are_counted_and_warned_of(clip, frames, tmp_path):
    class Listening:
        def __init__(self):
            from figclip_cli.reporting import SILENT

            self.warnings, self.info, self.detail, self.track = [], SILENT.info, SILENT.detail, SILENT.track

        def warn(self, message):
            self.warnings.append(message)

    long = " ".join(["word"] * 90)
    (tmp_path / "captions.csv").write_text(f"clip_id,caption\n{frames.clip_ids[0]},{long}\n{frames.clip_ids[1]},x\n")
    listening = Listening()
    results = evaluated(clip, frames, read_captions(tmp_path / "captions.csv"), reporter=listening)
    assert results.protocol["overlong_texts"] == 1
    assert listening.warnings == ["1 of 2 texts are over the context: their end is unseen"]
