"""``evaluate --scales``: a curve of what is to be kept, then one of what is gained against it; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import evaluate_worlds as worlds
import pytest
from evaluate_worlds import refused
from samples import CLIP_IDS

from figclip_cli.evaluate.curve_reading import read_curve
from figclip_cli.evaluate.results import read_results
from figclip_cli.models.clip import Clip

here = worlds.here
CIRCLE = "{http://www.w3.org/2000/svg}circle"
ACTIONS = "clip_id,label\n" + "".join(f"{clip_id},{'walk' if n % 2 else 'run'}\n" for n, clip_id in enumerate(CLIP_IDS))


@pytest.fixture
def lab(here, prepared, finished_run, tmp_path):
    """A folder with the default names, and the flags of the three tasks."""
    for name, path in (("frames.h5", prepared / "frames.h5"), ("prompts.jsonl", prepared / "prompts.jsonl")):
        Path(name).symlink_to(path)
    Path("actions.csv").write_text(ACTIONS)
    run = "--run", str(finished_run.path)

    def evaluate(task, *flags):
        return here("evaluate", task, *run, *flags)

    return evaluate


def test_what_is_gained_against_what_is_kept(lab, here, finished_run, monkeypatch):
    """The whole way: a curve of actions, a curve of retrieval against it, its files, and its results in compare."""
    said = lab("action", "--prompts", "photo", "--scales", "1,0,0.5", "-o", "kept.json")
    assert said.code == 0, said.stderr
    assert "0 (base)" in said.stdout and "top-1 by scale" in said.stdout and "best top-1: " in said.stdout
    assert said.stdout.splitlines()[-2:] == ["kept.json", "kept.svg"]
    assert "encode clips with quick at 0.5: 6/6 clips" in said.stderr and "scale 1: 3 of 3" in said.stderr
    assert len(list(ElementTree.parse("kept.svg").iter(CIRCLE))) == 3
    for name in ("base", "again"):
        flags = ("--base-only", "--model", str(finished_run.path.parents[1] / "base-model")) if name == "base" else ()
        run = () if name == "base" else ("--run", str(finished_run.path))
        assert here("evaluate", "action", *run, *flags, "--prompts", "photo", "-o", f"{name}.json").code == 0
    values = {name: [one.value for one in read_results(Path(f"{name}.json")).metrics] for name in ("base", "again")}
    kept = read_curve(Path("kept.json"))
    assert [one.value for one in kept.points[0].metrics] == values["base"]
    assert [one.value for one in kept.points[-1].metrics] == values["again"]

    flags = "--scales", "0,0.5,0.75,1", "--curve-metric", "v2t MnR", "--kept", "kept.json"
    said = lab("retrieval", "--level", "event", *flags, "--json")
    assert said.code == 0, said.stderr
    folder = Path("results/retrieval-prompts-quick-scales")
    document = json.loads(said.stdout)
    assert document == json.loads((folder / "curve.json").read_text()) and document["metric"] == "v2t MnR"
    assert [one["scale"] for one in document["scales"]] == [0, 0.5, 0.75, 1]
    assert document["trade_off"]["kept"]["file"] == "kept.json" and document["trade_off"]["kept"]["metric"] == "top-1"
    assert [one["scale"] for one in document["trade_off"]["points"]] == [0, 0.5, 1]
    assert document["trade_off"]["points"][0]["gained"]["delta"] == 0
    drawn = (folder / "curve.svg").read_bytes()
    assert len(list(ElementTree.fromstring(drawn).iter(CIRCLE))) == 3
    names = [f"curve-{scale}{end}" for scale in ("0", "0.5", "0.75", "1") for end in (".json", ".samples.jsonl")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "curve.json", "curve.svg"])
    compared = here("compare", folder / "curve-0.5.json", folder / "curve-1.json")
    assert compared.code == 0 and "A = quick at 0.5 (adapted) and B = quick (adapted)" in compared.stdout
    assert "is a curve over scales" in refused(here("compare", folder / "curve.json"), 3)

    def never(*_):
        raise AssertionError("a tower was asked")

    monkeypatch.setattr(Clip, "encode_frames", never)
    again = lab("retrieval", "--level", "event", *flags)
    assert "curve.json already exists" in refused(again, 2)
    again = lab("retrieval", "--level", "event", *flags, "--overwrite")
    assert again.code == 0 and (folder / "curve.svg").read_bytes() == drawn
    assert "kept: top-1 ↑, actions.csv" in again.stdout and "is at most one standard error" in again.stdout
    assert "is itself a curve of zero-shot action recognition" in refused(
        lab("action", "--scales", "0,1", "--kept", "kept.json"), 3
    )
    assert "is an input" in refused(lab("retrieval", *flags, "-o", "kept.json", "--overwrite"), 2)


def test_negatives_have_a_curve_with_groups_missing_clips_and_records(lab, tmp_path):
    lines = Path("prompts.jsonl").read_text().replace(CLIP_IDS[5], "v_gone0000000_seg_0_10").splitlines()
    Path("some.jsonl").write_text("\n".join(lines) + "\n")
    flags = "--annotations", "some.jsonl", "--scales", "0.25,1", "--groups", "--clip-benchmark", "records"
    said = lab("compositional", *flags, "--no-samples", "--no-cache", "-o", "made/c.json")
    assert said.code == 4 and "1 clips were not evaluated, the first is v_gone0000000_seg_0_10" in said.stderr
    curve = read_curve(Path("made/c.json"))
    assert curve.metric == "macro" and curve.missing == {"v_gone0000000_seg_0_10": "not in the frames file"}
    assert curve.evaluated["clips"] == 5 and "5 of 6 clips" in said.stdout and "ties lenient" in said.stdout
    assert sorted(path.name for path in Path("made").iterdir()) == ["c-0.25.json", "c-1.json", "c.json", "c.svg"]
    header = next(line for line in said.stdout.splitlines() if line.startswith(" metric"))
    assert header.split() == ["metric", "base", "0.25", "1"]
    assert {json.loads(path.read_text())["pretrained"] for path in Path("records").iterdir()} == {
        "local", "quick at 0.25", "quick",
    }  # fmt: skip
    assert not Path(".figclip").exists()


REFUSALS = {
    "one": (["--scales", "1"], 2, "one scale is no curve"),
    "twice": (["--scales", "0,1,1.0"], 2, "names 1 twice"),
    "no number": (["--scales", "0,nan"], 2, "'nan' is no number from 0"),
    "empty": (["--scales", ""], 2, "'' is no number"),
    "kept alone": (["--kept", "x.json"], 2, "--kept is for --scales"),
    "number alone": (["--curve-metric", "x"], 2, "--curve-metric is for --scales"),
    "unknown number": (["--scales", "0,1", "--curve-metric", "t2v R1"], 2, "did you mean 't2v R@1'?"),
    "no kept": (["--scales", "0,1", "--kept", "gone.json"], 3, "curve file gone.json does not exist"),
    "no curve": (["--scales", "0,1", "--kept", "actions.csv"], 3, "curve file actions.csv is not JSON"),
    "name": (["--scales", "0,1", "-o", "curve.svg"], 2, "does not end with .json"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_meant_is_refused_before_anything_is_computed(name, lab, monkeypatch):
    flags, code, words = REFUSALS[name]
    monkeypatch.setattr(Clip, "encode_frames", None)
    assert words in refused(lab("retrieval", *flags), code)
    assert not Path("results").exists() and not Path(".figclip").exists()


def test_scales_need_a_run(here, prepared, monkeypatch):
    Path("frames.h5").symlink_to(prepared / "frames.h5")
    base = "--model", str(prepared / "base-model")
    said = refused(here("evaluate", "retrieval", "--base-only", *base, "--scales", "0,1"), 2)
    assert "--scales needs a run, and --base-only leaves it out" in said
    assert "there is none in runs/" in refused(here("evaluate", "retrieval", *base, "--scales", "0,1"), 2)


def test_a_file_of_an_earlier_curve_is_not_replaced_unasked(lab):
    Path("made").mkdir()
    Path("made/c-0.5.json").write_text("mine")
    said = refused(lab("action", "--scales", "0,0.5", "-o", "made/c.json"), 2)
    assert "made/c-0.5.json already exists" in said and Path("made/c-0.5.json").read_text() == "mine"


def test_scales_may_stand_in_a_configuration_file(lab):
    Path("lab.toml").write_text('[evaluate.action]\nscales = [0, 0.5]\nprompts = "photo"\n')
    said = lab("action", "--config", "lab.toml", "-q", "-o", "c.json")
    assert said.code == 0 and [one.scale for one in read_curve(Path("c.json")).points] == [0, 0.5]
