"""Clips read through a run's contextualizer: as training forms tokens, told apart from pooled frames, or refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from samples import CLIP_IDS, QUICK

from figclip_cli.adapt import AdaptOptions, ClipLists, SourceFiles, adapt
from figclip_cli.adapt.layout import lay_out
from figclip_cli.adapt.objective import clip_views
from figclip_cli.adapt.texts import MISSING, ClipTexts
from figclip_cli.errors import InputError, UsageError, VerificationError
from figclip_cli.evaluate import encoders
from figclip_cli.evaluate.compositional import evaluate_compositional, evaluate_compositional_at
from figclip_cli.evaluate.contextual_reading import refuse_misfit
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.compositional import read_compositional
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.protocols import PROTOCOLS, ProtocolOptions
from figclip_cli.evaluate.retrieval import evaluate_retrieval, evaluate_retrieval_at
from figclip_cli.evaluate.task_options import CompositionalOptions, RetrievalOptions
from figclip_cli.evaluate.visuals import ImageFiles, StoredClips
from figclip_cli.evaluate.visuals.contextual import Contextualizer, contextual_features, contextual_key
from figclip_cli.evaluate.visuals.features import visual_key
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import attach_run, load_contextualizer
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import save_tensors
from figclip_cli.reporting import SILENT, SilentReporter
from figclip_cli.run_folder import RunFolder

PROTOCOL = PROTOCOLS["figclip"]
HELD_OUT = CLIP_IDS[1:5]
SHARED = "shared"
BY_TOKENS = {"retrieval": RetrievalOptions(features="tokens"), "choices": CompositionalOptions(features="tokens")}


class Listener(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A run that was validated after its last epoch."""
    folder = tmp_path_factory.mktemp("contextual")
    (folder / "v.txt").write_text("\n".join(HELD_OUT))
    made = RunFolder(folder / "seen")
    adapt(
        [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")],
        made,
        source=ModelSource(str(prepared / "base-model")),
        options=AdaptOptions(**{**QUICK, "batch_clips": 2, "epochs": 1}),
        lists=ClipLists(validation=folder / "v.txt"),
    )
    return made


@pytest.fixture(scope="module")
def frames(prepared):
    return FramesReader(prepared / "frames.h5")


@pytest.fixture(scope="module")
def clips(frames):
    return StoredClips(frames, PROTOCOL)


@pytest.fixture(scope="module")
def tokens(run, frames):
    """By look, its token as training forms it: one frame encoded at a time, one clip laid out at a time."""
    clip, contextualizer = attach_run(load_base(run), run), load_contextualizer(run)
    none = torch.full((5,), MISSING)
    texts = ClipTexts(none, torch.full((5, 1), MISSING), torch.full((5, 1), MISSING))
    made = {}
    with torch.no_grad():
        for clip_id in frames.clip_ids:
            pixels = torch.from_numpy(frames.read(clip_id).reshape(20, 1, 32, 32, 3).copy())
            features = torch.cat([clip.encode_frames(one) for one in pixels])
            views = clip_views(features, lay_out([clip_id], [frames.recipe], [texts]), contextualizer)
            made[clip_id, None] = views.videos["vc"][0]
            made |= {(clip_id, event): views.events["vc"][0, event] for event in range(5)}
    return made


@pytest.fixture(scope="module")
def words(run):
    """The feature of a text that is read alone."""
    clip, kept = load_base(run), {}

    def feature(text):
        if text not in kept:
            with torch.no_grad():
                kept[text] = torch.nn.functional.normalize(clip.encode_texts([text])[0], dim=-1)
        return kept[text]

    return feature


@cache
def loaded(model):
    return load_clip(ModelSource(model))


def load_base(run):
    """The base of a run, read from its files once; nothing that is attached to it stays."""
    base = loaded(run.load_config()["model"]["source"]["model"])
    return dataclasses.replace(base, model=copy.deepcopy(base.model))


def opened(run):
    return Contextualizer(load_contextualizer(run), sha256_of_file(run.contextualizer_file))


def retrieved(run, clips, captions, *, features="tokens"):
    encoding, options = Encoding(PROTOCOL, kept_in(run)), RetrievalOptions(features=features)
    return evaluate_retrieval(load_base(run), clips, captions, encoding=encoding, run=run, options=options)


def chosen(run, clips, benchmark, *, features="tokens", cache=SHARED, reporter=SILENT):
    encoding, options = Encoding(PROTOCOL, kept_in(run, cache), reporter), CompositionalOptions(features=features)
    return evaluate_compositional(load_base(run), clips, benchmark, encoding=encoding, run=run, options=options)


def kept_in(run, cache=SHARED):
    """Where features are kept: beside the runs, so that texts are encoded once."""
    return run.path.parent / "kept" if cache == SHARED else cache


def toy(*looks, uses="clips"):
    """A choice between three texts for each look."""
    texts = "a man walks his old dog", "an old dog walks a man", "a man runs"
    choices = [Choice(str(number), (look,), texts, "a", "") for number, look in enumerate(looks)]
    return Compositional("toy", "toy", "0" * 64, choices, {"a": PartRule("micro", "strict")}, (), {}, uses)


def values(results, side="value"):
    return {metric.name: getattr(metric, side) for metric in results.metrics}


def margins(evaluation):
    return [sample.outcomes["adapted"].margin for sample in evaluation.samples()]


def copied(run, tmp_path, name="copy"):
    return RunFolder(shutil.copytree(run.path, tmp_path / name))


def reweighted(run, change):
    """Put another contextualizer into a run."""
    with safe_open(run.contextualizer_file, "pt") as file:
        metadata = file.metadata()
    state = load_file(run.contextualizer_file)
    save_file({name: change(name, tensor) for name, tensor in state.items()}, run.contextualizer_file, metadata)
    return run


def test_tokens_are_those_that_training_forms_and_do_not_depend_on_what_is_beside_them(run, clips, tokens):
    clip, looks = attach_run(load_base(run), run), sorted(tokens, key=str, reverse=True)
    found = contextual_features(clip, opened(run), clips, looks)
    assert found.looks == tuple(looks) and not found.failed and found.width == 32
    assert torch.allclose(found.all(), torch.stack([tokens[look] for look in looks]), atol=2e-6)
    assert torch.allclose(found.all().norm(dim=-1), torch.ones(36), atol=1e-6)
    alone = contextual_features(clip, opened(run), clips, [looks[8]])
    assert torch.equal(alone.all()[0], found.all()[8])
    pooled = encoders.visual_features(clip, clips, looks, pooling="mean-l2")
    assert np.array_equal(pooled.contents, found.contents) and (pooled.all() - found.all()).abs().max() > 0.1


@pytest.mark.parametrize("level", ["event", "video"])
def test_retrieval_by_tokens_equals_ranks_counted_by_hand(run, clips, tokens, words, prepared, level):
    captions = read_captions(prepared / "prompts.jsonl", level=level)
    results = retrieved(run, clips, captions).results
    looks = [(query.clip_id, query.event_index) for query in captions.queries]
    texts = [torch.nn.functional.normalize(sum(map(words, query.texts)), dim=-1) for query in captions.queries]
    scores = torch.stack(texts) @ torch.stack([tokens[look] for look in looks]).T
    for direction, table in (("t2v", scores), ("v2t", scores.T)):
        own = table.diagonal()[:, None]
        assert ((table - own).abs() + torch.eye(len(own))).min() > 1e-6  # nothing is near a tie
        ranks = (table > own).sum(1)
        assert values(results)[f"{direction} MnR"] == pytest.approx(float(ranks.double().mean()) + 1)
        assert values(results)[f"{direction} R@1"] == pytest.approx(100 * float((ranks == 0).double().mean()))
    plain = retrieved(run, clips, captions, features="plain").results
    assert values(results, "base_value") == values(plain, "base_value") and values(results) != values(plain)


def test_choices_by_tokens_equal_margins_counted_by_hand(run, clips, tokens, words):
    looks = [Look(clip_id=clip_id, event_index=event) for clip_id in CLIP_IDS[:3] for event in (None, 0, 4)]
    benchmark = toy(*looks)
    evaluation = chosen(run, clips, benchmark)
    for margin, look in zip(margins(evaluation), looks, strict=True):
        right, *wrong = [float(tokens[look.clip_id, look.event_index] @ words(t)) for t in benchmark.choices[0].texts]
        assert margin == pytest.approx(right - max(wrong), abs=2e-6)
    plain = chosen(run, clips, benchmark, features="plain")
    base = [[s.outcomes["base"].margin for s in one.samples()] for one in (evaluation, plain)]
    assert base[0] == base[1] and len(set(margins(evaluation))) == 9


def test_the_result_says_which_model_was_read_how(run, clips, prepared):
    captions = read_captions(prepared / "prompts.jsonl")
    for results in (
        retrieved(run, clips, captions).results,
        chosen(run, clips, toy(Look(clip_id=CLIP_IDS[0]))).results,
    ):
        assert results.protocol["contextualizer"] is True
        assert results.protocol["clips_read_by"] == {
            "base": "image tower, frames pooled by mean-l2",
            "adapted": "image tower and video contextualizer, event and video tokens",
        }
        assert results.protocol["contextualizer_built_for"] == {"events": 5, "frames_per_event": 4}
        assert results.adapted_name == "seen with contextualizer"
        assert results.models["adapted"]["contextualizer_sha256"] == sha256_of_file(run.contextualizer_file)
        assert "contextualizer_sha256" not in results.models["base"]
    plain = retrieved(run, clips, captions, features="plain").results
    assert plain.protocol["contextualizer"] is False and "clips_read_by" not in plain.protocol
    assert plain.adapted_name == "seen" and "contextualizer_sha256" not in plain.models["adapted"]


def test_what_is_kept_is_told_apart_and_texts_are_the_same(run, clips, tmp_path, monkeypatch):
    asked = toy(*(Look(clip_id=clip_id, event_index=event) for clip_id in CLIP_IDS[:3] for event in (None, 2)))
    seen, real = [], Clip.encode_frames
    monkeypatch.setattr(Clip, "encode_frames", lambda clip, pixels: seen.append(clip.name) or real(clip, pixels))
    fresh = {one: margins(chosen(run, clips, asked, features=one, cache=None)) for one in ("plain", "tokens")}

    chosen(run, clips, asked, features="plain", cache=tmp_path)
    encode_texts = Clip.encode_texts
    monkeypatch.setattr(Clip, "encode_texts", None)  # the texts' features are there, the same for both
    seen.clear()
    assert margins(chosen(run, clips, asked, cache=tmp_path)) == fresh["tokens"] != fresh["plain"]
    assert set(seen) == {"seen with contextualizer"}  # the base's features were kept
    seen.clear()
    for features in ("plain", "tokens", "plain"):
        assert margins(chosen(run, clips, asked, features=features, cache=tmp_path)) == fresh[features]
    other = reweighted(copied(run, tmp_path), lambda name, t: -t if name == "event_token" else t)
    found = margins(chosen(other, clips, asked, cache=tmp_path))
    assert seen == []  # frames are kept, and tokens are another contextualizer's
    monkeypatch.setattr(Clip, "encode_texts", encode_texts)
    assert found == margins(chosen(other, clips, asked, cache=None)) != fresh["tokens"]


def test_keys_name_all_that_tokens_depend_on(run, clips, inputs, tmp_path):
    base, reader = load_base(run), opened(run)
    keys = {visual_key(base, "fp32"), visual_key(base, "fp32", raw=True), contextual_key(base, reader, clips, "fp32")}
    keys |= {contextual_key(base, dataclasses.replace(reader, sha256="0" * 64), clips, "fp32")}
    keys |= {contextual_key(base, reader, clips, "bf16")}
    keys |= {contextual_key(attach_run(base, run), reader, clips, "fp32")}
    other = other_frames(inputs, tmp_path / "f.h5", events=4, frames_per_event=1)
    keys |= {contextual_key(base, reader, other, "fp32")}
    assert len(keys) == 7


def test_validation_of_the_run_says_the_same_of_the_same_clips(run, clips, prepared, tmp_path):
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    last = [line["validation"] for line in lines if "validation" in line][-1]
    (tmp_path / "v.txt").write_text("\n".join(HELD_OUT))
    captions = read_captions(prepared / "prompts.jsonl", level="event", ids=tmp_path / "v.txt")
    assert len({query.texts for query in captions.queries}) == 20
    whole = read_compositional("prompts", [prepared / "prompts.jsonl"], seed=0)
    held_out = [choice for choice in whole.choices if choice.looks[0].clip_id in HELD_OUT]
    benchmark = dataclasses.replace(whole, choices=held_out)
    for features, prefix in (("tokens", "vc_"), ("plain", "")):
        results = retrieved(run, clips, captions, features=features).results
        for k in (1, 5):
            assert values(results)[f"t2v R@{k}"] == pytest.approx(100 * last[f"{prefix}event_recall_at_{k}"])
        told = {
            name.removeprefix(f"{prefix}told/"): 100 * value
            for name, value in last.items()
            if name.startswith(f"{prefix}told/")
        }
        found = values(chosen(run, clips, benchmark, features=features).results)
        assert len(told) >= 2 and {name: found[name] for name in told} == pytest.approx(told)
    kinds = [f"told/{name}" for name in told]
    assert any(last[f"vc_{name}"] != last[name] for name in ("event_recall_at_1", "event_recall_at_5", *kinds))


def other_frames(inputs, path, **recipe):
    recipe = SamplingRecipe(size=32, **recipe)
    extract([inputs / "vidsitu" / f"{CLIP_IDS[0]}.mp4"], path, recipe=recipe, workers=1)
    return StoredClips(FramesReader(path), PROTOCOL)


def test_clips_with_more_than_was_trained_on_are_refused_and_with_fewer_are_said(run, inputs, tmp_path):
    asked = toy(Look(clip_id=CLIP_IDS[0]))
    for number, (events, of_event) in enumerate([(6, 1), (1, 5)]):
        more = other_frames(inputs, tmp_path / f"{number}.h5", events=events, frames_per_event=of_event)
        with pytest.raises(InputError, match=f"has {events} events of {of_event} frames, the run's .* at most 5 of 4"):
            chosen(run, more, asked)
    fewer, listener = other_frames(inputs, tmp_path / "fewer.h5", events=2, frames_per_event=3), Listener()
    results = chosen(run, fewer, asked, reporter=listener).results
    assert any("has 2 events of 3 frames" in said and "up to 5 of 4" in said for said in listener.warnings)
    assert results.protocol["frames"]["events"] == 2
    ragged = other_frames(inputs, tmp_path / "ragged.h5", policy="fps", fps=1)
    with pytest.raises(InputError, match="so its clips differ in length"):
        chosen(run, ragged, asked)


def test_there_must_be_a_run_with_a_contextualizer_that_was_trained(run, clips, prepared, tmp_path):
    base, captions = load_base(run), read_captions(prepared / "prompts.jsonl")
    with pytest.raises(UsageError, match="needs a run; the base model alone has no contextualizer"):
        evaluate_retrieval(base, clips, captions, encoding=Encoding(PROTOCOL), options=BY_TOKENS["retrieval"])
    gone = copied(run, tmp_path, "gone")
    gone.contextualizer_file.unlink()
    with pytest.raises(InputError, match="contextualizer .*gone/contextualizer.safetensors does not exist"):
        retrieved(gone, clips, captions)
    for name, change, said in (
        ("without", {"contextualizer": False}, "was made without a contextualizer"),
        ("videos", {"vc_video_weight": 0.0}, "--vc-video-weight 0: its video tokens mean nothing"),
    ):
        other = copied(run, tmp_path, name)
        other.config_file.write_text(json.dumps({**other.load_config(), **change}))
        with pytest.raises(InputError, match=said):
            retrieved(other, clips, captions)
    whole, event = toy(Look(clip_id=CLIP_IDS[0])), toy(Look(clip_id=CLIP_IDS[0], event_index=0))
    assert chosen(other, clips, event).results.metrics
    other.config_file.write_text(json.dumps({**run.load_config(), "vc_event_weight": 0.0}))
    assert chosen(other, clips, whole).results.metrics
    with pytest.raises(InputError, match="its event tokens mean nothing"):
        chosen(other, clips, event)


def test_a_contextualizer_that_does_not_fit_or_is_damaged_is_refused(run, clips, prepared, tmp_path):
    captions = read_captions(prepared / "prompts.jsonl")
    narrow = copied(run, tmp_path, "narrow")
    config = ContextualizerConfig(width=16, layers=1)
    save_tensors(narrow.contextualizer_file, VideoContextualizer(config).state_dict(), {"config": config.as_dict()})
    with pytest.raises(InputError, match="reads features of width 16, .* has 32"):
        retrieved(narrow, clips, captions)
    broken = reweighted(
        copied(run, tmp_path, "broken"), lambda name, t: t * float("nan") if name == "video_token" else t
    )
    with pytest.raises(VerificationError, match="broken with contextualizer gives 6 of 6 features that are not finite"):
        retrieved(broken, clips, captions)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"protocol": "clip4clip"}, "the protocol 'clip4clip' chooses frames"),
        ({"protocol": "vifi"}, "the protocol 'vifi' chooses frames"),
        ({"protocol": "velociti"}, "the protocol 'velociti' chooses frames"),
        ({"num_frames": 4}, "--num-frames chooses some"),
        ({"pooling": "l2-mean"}, "pooled by mean-l2, not l2-mean"),
    ],
)
def test_protocols_that_choose_or_pool_frames_otherwise_are_refused(run, asked, said):
    protocol = ProtocolOptions(**asked).resolve()
    refuse_misfit("plain", None, protocol, scales=(0.5,), uses_images=True)
    with pytest.raises(UsageError, match=said):
        refuse_misfit("tokens", run, protocol)
    refuse_misfit("tokens", run, ProtocolOptions(precision="bf16", max_tokens=20).resolve())


def test_images_and_scales_are_refused(run, clips, prepared, tmp_path):
    encoding, base = Encoding(PROTOCOL), load_base(run)
    captions, asked = read_captions(prepared / "prompts.jsonl"), toy(Look(clip_id=CLIP_IDS[0]))
    for scales in ((0.5,), (0.0, 1.0), (0.0,)):
        with pytest.raises(UsageError, match="--features tokens and --scales contradict each other"):
            evaluate_retrieval_at(
                scales, base, clips, captions, encoding=encoding, run=run, options=BY_TOKENS["retrieval"]
            )
        with pytest.raises(UsageError, match="--scales"):
            evaluate_compositional_at(
                scales, base, clips, asked, encoding=encoding, run=run, options=BY_TOKENS["choices"]
            )
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match="a contextualizer does not read images"):
        chosen(run, ImageFiles([tmp_path], size=32, crop="center"), toy(Look(image="a.png"), uses="images"))
    with pytest.raises(UsageError, match="--features cannot be 'token'"):
        RetrievalOptions(features="token")


def test_clips_that_are_damaged_are_left_out_for_both_models(run, clips, monkeypatch):
    asked = toy(*(Look(clip_id=clip_id, event_index=event) for clip_id in CLIP_IDS[:3] for event in (None, 1)))
    frames = clips.reader
    read, stored = FramesReader.read, FramesReader.stored

    def damaged(real):
        def call(self, clip_id):
            if clip_id == CLIP_IDS[1]:
                raise InputError(f"clip '{clip_id}' is damaged", "extract again")
            return real(self, clip_id)

        return call

    monkeypatch.setattr(FramesReader, "read", damaged(read))
    monkeypatch.setattr(FramesReader, "stored", damaged(stored))
    results = chosen(run, StoredClips(frames, PROTOCOL), asked, cache=None).results
    assert results.missing == {CLIP_IDS[1]: f"clip '{CLIP_IDS[1]}' is damaged"}
    assert results.asked == {"items": 6, "clips": 3} and results.evaluated == {"items": 4, "clips": 2}
