"""Situation predictions in a report: phrases beside annotators' words, the clips that changed most first."""

from __future__ import annotations

import json
import re

import crafted
import pytest
from samples import VERBS, annotation_record

from figclip_cli.errors import UsageError
from figclip_cli.files import sha256_of_file
from figclip_cli.report import ReportMaterial, SituationFiles, write_report

CLIP_IDS = ["v_first_seg_0_10", "v_second_seg_0_10", "v_third_seg_0_10"]


def phrases_of(number, event, *, right):
    """What a head predicts of an event: the annotator's words, or something else."""
    sense = sorted(VERBS)[(event + number) % 5]
    args = {key.split(" ")[0]: f"{value} {number}" for key, value in VERBS[sense][1].items() if key.startswith("Arg")}
    args = {key: value for key, value in args.items() if key in ("Arg0", "Arg1")}
    return {"vb_id": sense, **(args if right else dict.fromkeys(args, "a zebra"))}


def predict(folder, name, run, right_clips, content):
    place = crafted.write_predictions(folder, name, run, [], frames=content)
    (place / "verbs.json").unlink()
    rows = [
        {"ann_idx": n, "vb_output": {f"Ev{e + 1}": phrases_of(n, e, right=n in right_clips) for e in range(5)}}
        for n in range(len(CLIP_IDS))
    ]
    (place / "roles.json").write_text(json.dumps(rows))
    about = json.loads((place / "predictions.json").read_text())
    about["files"] = {"roles.json": sha256_of_file(place / "roles.json")}
    (place / "predictions.json").write_text(json.dumps(about))
    return place


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    frames, content = crafted.write_frames(folder, CLIP_IDS[:2])
    run = crafted.craft_run(folder)
    predictions = [predict(folder, "base", None, {0}, content), predict(folder, "own", run, {0, 1}, content)]
    records = [annotation_record(clip_id, n) for n, clip_id in enumerate(CLIP_IDS) for _ in range(3)]
    (folder / "vsann.json").write_text(json.dumps(records))
    (folder / "split.json").write_text(json.dumps(CLIP_IDS))
    return folder, run, frames, predictions


def page_of(world, tmp_path, *, annotated=True, predictions=None):
    folder, run, frames, both = world
    files = SituationFiles(folder / "split.json", folder / "vsann.json" if annotated else None)
    material = ReportMaterial([], [], [frames], predictions or both, files)
    summary = write_report([run], tmp_path / "r.html", material, count=1)
    text = summary.path.read_text()
    return text[text.index('<section id="situations"') : text.index('<section id="lora"')]


def test_the_clip_that_gained_most_comes_with_its_frames_and_scores(world, tmp_path):
    text = page_of(world, tmp_path)
    assert text.index("gained most: base 0.000, one ") and CLIP_IDS[1] in text
    assert CLIP_IDS[0] not in text and CLIP_IDS[2] not in text
    assert text.count("<img ") == 10 and text.count("a zebra") >= 5
    assert len(re.findall("CIDEr [1-9]", text)) >= 5 and "✗</span> wrong" in text and "✓</span> right" in text
    first = re.search('alt="([^"]*)"', text)[1]
    assert re.match(r"\w+\.\d\d\. .*: .* 1.*\(frame 1 of 2 shown, at \d\.\d seconds\)", first)


def test_of_one_model_the_best_and_the_worst_are_shown(world, tmp_path):
    text = page_of(world, tmp_path, predictions=[world[3][1]])
    assert "among the best" in text and "among the worst" in text
    assert CLIP_IDS[2] in text and "the clip is not in the frames file" in text


def test_heads_that_predict_different_clips_are_not_said_to_agree(tmp_path):
    def made(base, own):
        folder = tmp_path / f"{base}-{own}"
        run = crafted.craft_run(folder)
        clips = [[["push.01"]] * 5, [["walk.01"]] * 5]
        split, vinfo = crafted.write_truth(folder, ["v_a", "v_b"], [["push.01"] * 5, ["push.01"] * 5])
        both = [
            crafted.write_predictions(folder, name, of, [clips[0], clips[1]])
            for name, of in (("base", None), ("own", run))
        ]
        for place, kept in zip(both, (base, own), strict=True):
            rows = json.loads((place / "verbs.json").read_text())
            (place / "verbs.json").write_text(json.dumps([row for row in rows if row["ann_idx"] in kept]))
            about = json.loads((place / "predictions.json").read_text())
            about["files"] = {"verbs.json": sha256_of_file(place / "verbs.json")}
            (place / "predictions.json").write_text(json.dumps(about))
        material = ReportMaterial([], [], [], both, SituationFiles(split, vinfo=vinfo))
        return write_report([run], folder / "r.html", material, count=1).path.read_text()

    text = made((0,), (1,))
    assert "the heads predict different clips" in text and "no clip changed" not in text and "gained most" not in text
    text = made((0, 1), (0, 1))
    assert "no clip changed" in text and "different clips" not in text
    text = made((0, 1), (0,))
    assert "no clip changed" in text and "lost most" not in text


def test_phrases_need_annotation(world, tmp_path):
    with pytest.raises(UsageError, match="beside --annotations"):
        page_of(world, tmp_path, annotated=False)
