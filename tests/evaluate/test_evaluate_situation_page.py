"""The page of situations: sound HTML of its own, texts that cannot break out, and an answer to whatever is missing."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from figclip_cli.demo.render import write_mp4
from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.situation_page.page import (
    MAX_PAGE_CLIPS,
    ChosenClip,
    PageClip,
    PageEvent,
    PagePrediction,
    PageRole,
    write_page,
)
from figclip_cli.frames import FramesReader, SamplingRecipe, extract

VOID = {"meta", "img", "br", "link", "input", "hr"}
ALLOWED = set(
    "html head meta title style body header h1 h2 h3 p div table caption thead tbody tr th td dl dt dd span bdi nav "
    "ul li a main section figure img figcaption small br".split()
)
HOSTILE = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style></table><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt; & &amp;",
    "<!-- ",
    "]]>",
]


class Page(HTMLParser):
    """Parses strictly: every element closed in order, every id once."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.cells = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "".join(self.texts)


def truth_of(clip_id, phrase="red circle", events=2):
    roles = (PageRole("Arg0", "pusher", ("the " + phrase, phrase, "a disc")), PageRole("AScn", "", ("desert",)))
    event = PageEvent(("push.01",) * 8 + ("hit.01",) * 2, roles, ("Causes", "Causes", "NoRel"))
    return PageClip(clip_id, (event,) * events)


def said(verbs=("push.01", "hit.01"), relation="Causes", cider=None, **phrases):
    phrases = phrases or {"Arg0": "red circle", "AScn": "sea"}
    return PagePrediction(verbs, phrases, cider or {}, relation)


TRUTH = {name: truth_of(name) for name in ("v_a", "v_b", "v_c")}
BASE = {name: [said(("lift.01", "push.01")), said(("lift.01",), "NoRel", Arg0="star")] for name in TRUTH}
ADAPTED = {name: [said(cider={"Arg0": 2.5}), said(Arg0="a Red circle", AScn="hot desert")] for name in TRUTH}


def page(tmp_path, clips=("v_a",), frames=None, truth=TRUTH, models=None, **more):
    path = tmp_path / "page.html"
    write_page(path, clips, frames, truth, models or {"base": BASE, "adapted": ADAPTED}, **more)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Frames of v_a, ok, and v_b, which is a broken file; two events of three frames."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "videos").mkdir()
    bright = np.linspace(0, 255, 16, dtype=np.uint8)
    write_mp4(folder / "videos" / "v_a.mp4", np.broadcast_to(bright[:, None, None, None], (16, 64, 64, 3)))
    (folder / "videos" / "v_b.mp4").write_bytes(b"no video")
    recipe = SamplingRecipe(events=2, frames_per_event=3, size=200)
    extract([folder / "videos"], folder / "frames.h5", recipe=recipe, workers=1)
    return FramesReader(folder / "frames.h5")


def test_it_is_one_sound_document_that_loads_nothing(tmp_path, frames):
    found = page(tmp_path, ["v_a", "v_b"], frames)
    assert {tag for tag, _ in found.elements} <= ALLOWED
    assert found.elements[0] == ("html", {"lang": "en"})
    policy = next(meta["content"] for meta in found.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'") and "script" not in policy
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in found.all("img"))
    assert all(link["href"].startswith("#clip-") for link in found.all("a"))
    source = (tmp_path / "page.html").read_text()
    assert "http://" not in source and "https://" not in source and "url(" not in source and "@import" not in source
    assert "prefers-color-scheme:dark" in source and "@media print" in source and "width=device-width" in source


def test_headings_descend_and_links_lead_to_clips(tmp_path):
    found = page(tmp_path, ["v_b", "v_a"])
    levels = [int(tag[1]) for tag, _ in found.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1 and max(np.diff(levels)) <= 1
    ids = [section["id"] for section in found.all("section") if "id" in section]
    assert ids == ["clip-1", "clip-2"] == [link["href"][1:] for link in found.all("a")]
    assert found.text.index("v_b") < found.text.index("v_a")


def test_tables_have_captions_headers_and_full_rows(tmp_path):
    found = page(tmp_path)
    assert len(found.all("table")) == len(found.all("caption")) == 1 + 2
    assert all(header["scope"] in ("col", "row") for header in found.all("th"))
    rows = 0
    lengths = []
    for tag, _ in found.elements:
        if tag == "tr":
            lengths.append(0)
        elif tag in ("td", "th"):
            lengths[-1] += 1
        rows += tag == "tr"
    assert lengths == [3] * 3 + [4] * (2 * 5) and rows == len(lengths)


def test_right_close_and_wrong_are_said_in_words_and_signs(tmp_path):
    cells = page(tmp_path).cells
    row = {cells[i].strip(): cells[i + 1 : i + 4] for i in range(9 + 4, 9 + 20, 4)}
    assert row["verb"] == [
        "push.01 (8 of 10)hit.01 (2 of 10)",
        "≈ close lift.01then push.01",
        "✓ right push.01then hit.01",
    ]
    assert row["Arg0 pusher"] == [
        "the red circlered circlea disc",
        "✓ right red circle",
        "✓ right red circle CIDEr 2.50",
    ]
    assert row["AScn"] == ["desert", "✗ wrong sea", "✗ wrong sea"]
    assert row["relation to the third event"][1:] == ["✓ right Causes", "✓ right Causes"]
    second = cells[9 + 24 :]
    assert second[2] == "✗ wrong lift.01" and second[6:8] == ["✗ wrong star", "✓ right a Red circle"]
    assert second[10:12] == ["✗ wrong nothing", "≈ close hot desert"] and second[14] == "✗ wrong NoRel"


def test_the_head_counts_what_is_right_on_the_page(tmp_path):
    cells = page(tmp_path, ["v_a", "v_c"]).cells
    assert cells[:9] == [
        "Model",
        "Verbs right",
        "Phrases right",
        "base",
        "0 of 4",
        "2 of 8",
        "adapted",
        "4 of 4",
        "4 of 8",
    ]


def test_annotators_who_do_not_agree_judge_no_relation(tmp_path):
    event = PageEvent(("push.01",), (), ("Causes", "NoRel"))
    found = page(tmp_path, truth={"v_a": PageClip("v_a", (event, event))})
    assert "Causes annotators do not agree" in found.cells


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(tmp_path, text):
    role = PageRole(text, text, (text, "other " + text))
    truth = {text: PageClip(text, (PageEvent((text,), (role,), (text,)),))}
    prediction = PagePrediction((text, text), {text: text, "x" + text: text}, {}, text)
    found = page(tmp_path, [ChosenClip(text, text)], None, truth, {text: {text: [prediction]}, "b": {}}, title=text)
    assert {tag for tag, _ in found.elements} <= ALLOWED
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert not found.all("img") and len(found.all("table")) == 2
    assert found.text.count(text) >= 12 and text in found.cells[-3]


def test_characters_that_no_html_may_hold_are_replaced_and_others_kept(tmp_path):
    odd = "a\x00b\x1b\ud800\uffff"
    truth = {"v_a": truth_of("v_a", "שלום 赤い 😀 " + odd)}
    found = page(tmp_path, truth=truth)
    assert "שלום 赤い 😀 a�b���" in found.text
    assert len(found.all("bdi")) > 10


def test_a_text_without_end_is_cut(tmp_path):
    long = "x" * 100_000
    found = page(tmp_path, models={"base": {"v_a": [said(Arg0=long), said()]}})
    assert "x" * 300 + "…" in found.text and len(found.text) < 5000


def test_pictures_are_small_jpegs_with_times_and_alternative_texts(tmp_path, frames):
    images = page(tmp_path, ["v_a"], frames).all("img")
    assert [image["alt"] for image in images] == [
        f"Event {event}, frame {frame} of 2 shown, at {seconds} seconds"
        for event, frame, seconds in ((1, 1, "0.12"), (1, 2, "0.75"), (2, 1, "1.12"), (2, 2, "1.75"))
    ]
    opened = [Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) for image in images]
    assert all(image.format == "JPEG" and image.size == (160, 160) for image in opened)
    brightness = [float(np.asarray(image).mean()) for image in opened]
    assert brightness == sorted(brightness) and brightness[-1] - brightness[0] > 100


def test_a_clip_without_frames_says_why(tmp_path, frames):
    found = page(tmp_path, ["v_a", "v_b", "v_c"], frames)
    assert "No frames (failed: " in found.text
    assert found.text.count("No frames (the clip is not in the frames file).") == 1
    assert len(found.all("img")) == 4


def test_frames_of_another_split_or_other_events_are_refused(tmp_path, frames):
    with pytest.raises(InputError, match="frames of none of the 2 clips shown"):
        page(tmp_path, ["v_b", "v_c"], frames)
    with pytest.raises(InputError, match="has 3 events a clip, .* has 2"):
        truth = {"v_a": truth_of("v_a", events=3)}
        page(tmp_path, ["v_a"], frames, truth, {"base": {"v_a": [said()] * 3}})
    assert not list(tmp_path.iterdir())


def test_missing_predictions_are_said_and_count_as_wrong(tmp_path):
    found = page(tmp_path, ["v_a", "v_b"], models={"base": {"v_a": ADAPTED["v_a"]}, "adapted": ADAPTED})
    assert found.text.count("base predicts nothing for this clip.") == 1
    assert found.cells[4:6] == ["2 of 4", "2 of 8"] and found.cells[7] == "4 of 4"


def test_what_a_model_was_not_asked_is_not_judged(tmp_path):
    only_verbs = {"v_a": [PagePrediction(verbs=("push.01",))] * 2}
    only_roles = {"v_a": [PagePrediction(phrases={"Arg0": "red circle"})] * 2}
    cells = page(tmp_path, models={"verbs": only_verbs, "roles": only_roles}).cells
    assert cells[:9][3:] == ["verbs", "2 of 2", "not predicted", "roles", "not predicted", "2 of 4"]
    assert cells[9 + 4 : 9 + 12] == [
        "verb", "push.01 (8 of 10)hit.01 (2 of 10)", "✓ right push.01", "not predicted",
        "Arg0 pusher", "the red circlered circlea disc", "not predicted", "✓ right red circle",
    ]  # fmt: skip


def test_roles_that_nobody_annotated_are_shown_and_not_judged(tmp_path):
    cells = page(tmp_path, models={"base": {"v_a": [said(Arg2="rope"), said()]}}).cells
    at = cells.index("Arg2")
    assert cells[at : at + 3] == ["Arg2", "not annotated", "rope"]


def test_roles_that_are_not_scored_are_judged_only_where_predicted_and_never_counted(tmp_path):
    roles = (PageRole("Arg0", "", ("star",)), PageRole("ADir", "direction", ("left",), scored=False))
    truth = {"v_a": PageClip("v_a", (PageEvent(("push.01",), roles),))}
    models = {"base": {"v_a": [said(Arg0="star")]}, "adapted": {"v_a": [said(Arg0="star", ADir="up")]}}
    cells = page(tmp_path, truth=truth, models=models).cells
    assert cells[3:9] == ["base", "1 of 1", "1 of 1", "adapted", "1 of 1", "1 of 1"]
    assert cells[-4:] == ["ADir direction", "left", "not predicted", "✗ wrong up"]


def test_a_clip_is_shown_once_and_with_the_first_reason(tmp_path):
    found = page(tmp_path, [ChosenClip("v_a", "asked for"), ChosenClip("v_b"), ChosenClip("v_a", "again")])
    assert len([section for section in found.all("section") if "id" in section]) == 2
    assert "asked for" in found.text and "again" not in found.text


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clips": []}, UsageError, "1 to 200 clips, not 0"),
        ({"clips": [f"v_{n}" for n in range(MAX_PAGE_CLIPS + 1)]}, UsageError, "not 201"),
        ({"clips": ["v_aa"]}, UsageError, "no clip 'v_aa' is in the annotation"),
        (
            {"models": {"base": {"v_a": [said()]}}},
            InputError,
            "base predicts 1 events of clip 'v_a', the annotation has 2",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        page(tmp_path, **changes)
    assert caught.value.hint and not list(tmp_path.iterdir())


def test_a_page_needs_a_model_and_a_name_of_a_page(tmp_path):
    with pytest.raises(UsageError, match="no predictions"):
        write_page(tmp_path / "page.html", ["v_a"], None, TRUTH, {})
    with pytest.raises(UsageError, match=r"page\.png is no \.html"):
        write_page(tmp_path / "page.png", ["v_a"], None, TRUTH, {"base": BASE})


def test_the_same_inputs_give_the_same_bytes(tmp_path, frames):
    page(tmp_path, ["v_a"], frames)
    first = (tmp_path / "page.html").read_bytes()
    page(tmp_path, ["v_a"], frames)
    assert (tmp_path / "page.html").read_bytes() == first
