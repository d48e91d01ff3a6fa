"""Annotation in other formats than VidSitu's: recognised by content, read, and refused by record and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vidsitu_fixture import record, write

from figclip_cli.errors import InputError, UsageError
from figclip_cli.prompts import Inputs, PromptOptions, build, read_prompts
from figclip_cli.prompts.annotations import read_annotations, read_verbs
from figclip_cli.prompts.events import AnnotatedEvent, AnnotationFiles
from figclip_cli.prompts.schemas import schema

SENTENCE = {
    "clip": "v1",
    "words": ["A", "man", "slowly", "pushed", "the", "car", ",", "which", "rolled"],
    "verbs": [
        {
            "verb": "pushed",
            "tags": ["B-ARG0", "I-ARG0", "B-ARGM-MNR", "B-V", "B-ARG1", "I-ARG1", "O", "B-R-ARG1", "O"],
        },
        {
            "verb": "rolled",
            "frame": "roll.01",
            "tags": ["O", "O", "O", "O", "B-ARG1", "I-ARG1", "O", "B-R-ARG1", "B-V"],
        },
    ],
}
IMAGES = {
    "clinging_250.jpg": {
        "verb": "clinging",
        "frames": [
            {"agent": "n10287213", "clungto": "n04100174", "place": ""},
            {"agent": "n10787470", "clungto": "n04100174", "place": "n08613733"},
        ],
    }
}
SPACE = {
    "nouns": {
        "n10287213": {"gloss": ["man", "adult male"]},
        "n10787470": {"gloss": ["woman"]},
        "n04100174": {"gloss": ["rod"]},
        "n08613733": {"gloss": ["outdoors"]},
    },
    "verbs": {"clinging": {"order": ["agent", "clungto", "place"]}},
}
SIMPLE = [
    {
        "clip": "v1",
        "event": 1,
        "verb": "walk.01",
        "roles": {"Arg0 (walker)": "man", "manner": "slowly", "scene": "..."},
        "start_seconds": 2,
        "end_seconds": 4.5,
    },
    {"clip": "v1", "verb": "hit", "roles": {"agent": "boy", "Arg1": "ball"}},
]


def put(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def events(files: AnnotationFiles) -> list[AnnotatedEvent]:
    return [event for annotation in files.annotations for event in annotation.events]


def arguments(event: AnnotatedEvent) -> list[tuple[str, str, str]]:
    return [(a.arg, a.description, a.value) for a in event.arguments]


def test_each_format_is_recognised_by_its_content_and_said(tmp_path):
    said = []

    class Ear:
        info = staticmethod(said.append)

    space = put(tmp_path / "space.json", SPACE)
    paths = [
        write(tmp_path / "a.json", record("v_x")),
        put(tmp_path / "b.json", [SENTENCE]),
        put(tmp_path / "c.json", IMAGES),
        put(tmp_path / "d.json", SIMPLE),
        put(tmp_path / "e.csv", "clip,verb,agent\nv9,walk,man\n"),
        put(tmp_path / "f.jsonl", "\n".join(json.dumps({**each, "clip": "v8"}) for each in SIMPLE)),
        put(tmp_path / "g.json", {"format": "figclip-annotations", "events": [{**SIMPLE[1], "clip": "v7"}]}),
        put(tmp_path / "h.jsonl", json.dumps({**SIMPLE[1], "clip": "v6"})),
    ]
    paths[1].write_text(json.dumps([{**SENTENCE, "clip": "v5"}]))
    files = read_annotations(paths, nouns=space, strict=True, reporter=Ear)
    found = [source["format"] for source in files.sources]
    assert found == ["vidsitu", "srl", "imsitu", "simple", "simple", "simple", "simple", "simple"]
    assert "b.json is AllenNLP SRL (srl)" in said[1]
    assert {a.clip_id for a in files.annotations} == {"v_x", "v5", "clinging_250", "v1", "v9", "v8", "v7", "v6"}


def test_a_malformed_first_record_does_not_hide_the_format(tmp_path):
    path = put(tmp_path / "a.json", [3, {"verb": "walk"}, *SIMPLE])
    files = read_annotations([path])
    assert files.sources[0]["format"] == "simple"
    assert len(files.problems) == 2


def test_a_named_format_is_not_second_guessed(tmp_path):
    path = put(tmp_path / "d.json", SIMPLE)
    with pytest.raises(InputError, match="clip is missing|not a sentence|words is missing"):
        read_annotations([path], format_name="srl")
    with pytest.raises(UsageError, match="no annotation format 'vidsiut'") as caught:
        read_annotations([path], format_name="vidsiut")
    assert "vidsitu" in caught.value.hint


def test_sentences_become_events_in_the_order_of_their_verbs(tmp_path):
    pushed, rolled = events(read_annotations([put(tmp_path / "s.json", [SENTENCE])]))
    assert (pushed.index, pushed.verb, pushed.sense) == (0, "push", "push")
    assert arguments(pushed) == [("Arg0", "", "A man"), ("manner", "", "slowly"), ("Arg1", "", "the car")]
    assert (rolled.index, rolled.verb, rolled.sense) == (1, "roll", "roll.01")
    assert arguments(rolled) == [("Arg1", "", "the car")]


def test_a_sentence_of_a_named_event_gives_an_annotation_per_verb(tmp_path):
    files = read_annotations([put(tmp_path / "s.json", [{**SENTENCE, "event": 3}])])
    found = [(a.annotation_index, [(e.index, e.verb) for e in a.events]) for a in files.annotations]
    assert found == [(0, [(3, "push")]), (1, [(3, "roll")])]


def test_what_is_denied_did_not_happen_and_a_continued_role_is_one(tmp_path):
    denied = {
        "clip": "v",
        "words": ["he", "does", "not", "run", "but", "gives", "it", "quickly", "up"],
        "verbs": [
            {"verb": "run", "tags": ["B-ARG0", "O", "B-ARGM-NEG", "B-V", "O", "O", "O", "O", "O"]},
            {"verb": "gives", "tags": ["B-ARG0", "O", "O", "O", "O", "B-V", "B-ARG1", "B-ARGM-MNR", "B-C-ARG1"]},
        ],
    }
    (only,) = events(read_annotations([put(tmp_path / "s.json", [denied])]))
    assert (only.verb, arguments(only)[1]) == ("give", ("Arg1", "", "it up"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"words": ["A"]}, "verbs, 0, tags: 9 tags for 1 words"),
        ({"verbs": [{"verb": "x", "tags": ["I-ARG0"] + ["O"] * 8}]}, "verbs, 0, tags, 0: I-ARG0 continues no ARG0"),
        ({"verbs": [{"verb": "x", "tags": ["ARG0"] + ["O"] * 8}]}, "verbs, 0, tags, 0: 'ARG0' is none of O, B-ROLE"),
        ({"verbs": []}, "no verb has a role"),
        ({"event": "0"}, "event is a string, not a whole number"),
        ({"clip": 3}, "clip is a number, not a string"),
    ],
)
def test_a_broken_sentence_names_its_key(tmp_path, change, expected):
    with pytest.raises(InputError) as caught:
        read_annotations([put(tmp_path / "s.json", [{**SENTENCE, **change}])], strict=True)
    assert expected in caught.value.message


def test_a_sentence_without_a_clip_says_what_to_add(tmp_path):
    nameless = {key: value for key, value in SENTENCE.items() if key != "clip"}
    with pytest.raises(InputError, match="clip is missing") as caught:
        read_annotations([put(tmp_path / "s.json", [nameless])])
    assert "add the key clip" in caught.value.hint


def test_frames_of_an_image_are_annotations_and_their_nouns_words(tmp_path):
    files = read_annotations([put(tmp_path / "i.json", IMAGES)], nouns=put(tmp_path / "space.json", SPACE))
    first, second = files.annotations
    assert (first.clip_id, first.annotation_index, second.annotation_index) == ("clinging_250", 0, 1)
    assert (first.events[0].verb, first.events[0].sense) == ("cling", "cling")
    assert arguments(first.events[0]) == [("Arg0", "agent", "man"), ("Arg1", "clungto", "rod"), ("scene", "", "")]
    assert arguments(second.events[0])[2] == ("scene", "", "outdoors")


def test_wordnet_numbers_need_the_noun_file(tmp_path):
    path = put(tmp_path / "i.json", IMAGES)
    with pytest.raises(InputError, match="n10287213 is a number of WordNet's") as caught:
        read_annotations([path])
    assert "--nouns imsitu_space.json" in caught.value.hint
    few = {**SPACE, "nouns": {"n04100174": {"gloss": ["rod"]}}}
    with pytest.raises(InputError, match="frames, 0, agent: n10287213 has no gloss"):
        read_annotations([path], nouns=put(tmp_path / "few.json", few))
    with pytest.raises(InputError, match="has no nouns with glosses"):
        read_annotations([path], nouns=put(tmp_path / "wrong.json", {"nouns": 3}))


def test_the_simple_form_in_its_three_shapes_says_the_same(tmp_path):
    columns = "clip,event,verb,start_seconds,end_seconds,Arg0 (walker),manner,scene,roles\n"
    rows = 'v1,1,walk.01,2,4.5,man,slowly,...,\nv1,0,hit,,,,,,"agent=boy; Arg1=ball"\n'
    listed = events(read_annotations([put(tmp_path / "a.json", SIMPLE)], strict=True))
    lines = events(read_annotations([put(tmp_path / "b.jsonl", "\n".join(map(json.dumps, SIMPLE)))], strict=True))
    csv = events(read_annotations([put(tmp_path / "c.csv", columns + rows)], strict=True))
    assert listed == lines == csv
    hit, walk = listed
    assert (walk.index, walk.start_seconds, walk.end_seconds) == (1, 2.0, 4.5)
    assert arguments(hit) == [("Arg0", "", "boy"), ("Arg1", "", "ball")]
    assert arguments(walk)[0] == ("Arg0", "walker", "man")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event": -1}, "event: Expected `int` >= 0"),
        ({"event": "1"}, "event: Expected `int`, got `str`"),
        ({"evnt": 1}, "Object contains unknown field `evnt`"),
        ({"roles": {"walker": "man"}}, "roles: 'walker' is not a role; known: ArgN or ArgN (name)"),
        ({"roles": {"Arg0": 3}}, "roles, 'Arg0': a number, not a string"),
        ({"start_seconds": 1}, "start_seconds and end_seconds: one is there without the other"),
        ({"start_seconds": 3, "end_seconds": 2}, "end_seconds: 2 is not after start_seconds, 3"),
        ({"verb": " "}, "verb is empty"),
        ({"roles": {"Arg0": "<end_of_text>"}}, "roles, 'Arg0' has <start_of_text> or <end_of_text>"),
    ],
)
def test_a_broken_event_of_the_simple_form_names_its_key(tmp_path, change, expected):
    with pytest.raises(InputError) as caught:
        read_annotations([put(tmp_path / "a.json", [SIMPLE[0], {**SIMPLE[1], **change}])], strict=True)
    assert f"a.json, record 1 (clip v1): {expected}" in caught.value.message


def test_the_same_event_twice_is_a_problem(tmp_path):
    files = read_annotations([put(tmp_path / "a.json", [SIMPLE[0], SIMPLE[0]])])
    assert files.problems == (
        f"{tmp_path / 'a.json'}, record 1 (clip v1): clip v1: event 1 of annotation 0 is there already",
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("verb,agent\nwalk,man\n", "line 1: no column clip"),
        ("clip,verb,actor\nv,walk,man\n", "line 1: no such column 'actor'"),
        ("clip,verb,verb\nv,walk,man\n", "line 1: the column verb comes twice"),
        ('clip,verb\n"v,walk\n', "is not CSV"),
        ("clip,verb\n", "has no records"),
        ("", "has no records"),
        ("clip,verb,agent\nv,walk\n", "line 2: 2 fields, the first line has 3"),
        ("clip,verb,event\nv,walk,one\n", "line 2 (clip v): event: 'one' is not a whole number"),
        ("clip,verb,roles\nv,walk,man\n", "line 2: roles: 'man' is not ROLE=VALUE"),
    ],
)
def test_a_broken_csv_names_its_line(tmp_path, content, expected):
    with pytest.raises(InputError) as caught:
        read_annotations([put(tmp_path / "a.csv", content)], strict=True)
    assert expected.replace(" (clip v)", "") in caught.value.message


def test_a_document_of_another_format_or_version_is_refused(tmp_path):
    for extra, expected in (
        ({"format": "other"}, "is not in the format 'figclip-annotations'"),
        ({"format_version": 2}, "has format version 2, this figclip reads 1"),
        ({"extra": 1}, "unknown key 'extra'"),
    ):
        with pytest.raises(InputError, match=expected):
            read_annotations([put(tmp_path / "a.json", {"events": SIMPLE, **extra})])


def test_a_broken_line_of_json_lines_is_left_out_and_named(tmp_path):
    files = read_annotations(
        [put(tmp_path / "a.jsonl", json.dumps(SIMPLE[0]) + "\n{broken\n\n" + json.dumps(SIMPLE[1]))]
    )
    assert len(events(files)) == 2
    assert "a.jsonl, line 2: no JSON" in files.problems[0]


def test_times_reach_the_prompts_and_a_sense_gives_the_roles_their_names(tmp_path):
    build([put(tmp_path / "a.json", SIMPLE)], tmp_path / "p.jsonl")
    hit, walk = read_prompts(tmp_path / "p.jsonl").events
    assert (hit.start_seconds, walk.start_seconds, walk.end_seconds) == (None, 2.0, 4.5)
    assert hit.text == "In this photo, the action is hit, the agent is boy, the patient is ball."
    assert walk.text == "In this photo, the action is walk, the walker is man, manner is slowly."


def test_verbs_of_the_vinfo_file_are_never_negatives(tmp_path):
    names = {f"Ev{n}": ["jump", "sing"] for n in range(1, 6)}
    senses = {f"Ev{n}": ["eat.01"] for n in range(1, 6)}
    vinfo = put(tmp_path / "vinfo.json", [{"vid_seg_int": "v_x", "vb_lst": names, "vbid_lst": senses}])
    assert read_verbs(vinfo)["v_x", 4] == {"jump", "sing", "eat.01"}
    path = write(tmp_path / "a.json", record("v_x"))
    options = PromptOptions(negatives={"verb-role": 5000})
    build(Inputs([path], vinfo=vinfo), tmp_path / "p.jsonl", options=options)
    build([path], tmp_path / "q.jsonl", options=options)

    def verbs(name: str) -> set[str]:
        return {n.change["verb"]["to"] for n in read_prompts(tmp_path / name).events[0].negatives}

    assert {"jump", "sing", "eat", "leap", "chew"} <= verbs("q.jsonl")
    assert not {"jump", "sing", "eat", "leap", "chew"} & verbs("p.jsonl")


def test_a_vinfo_file_without_verbs_is_refused(tmp_path):
    with pytest.raises(InputError, match="lists no verbs"):
        read_verbs(put(tmp_path / "v.json", [{"vid_seg_int": "v_x"}]))
    with pytest.raises(InputError, match="record 0: KeyError"):
        read_verbs(put(tmp_path / "v.json", [{"vb_lst": {}}]))


def test_the_schemas_describe_what_is_read_and_written(tmp_path):
    annotations = schema("annotations")
    event = annotations["$defs"]["Event"]
    assert set(event["required"]) == {"clip", "verb", "roles"}
    assert event["additionalProperties"] is False
    assert "\n    " not in event["description"].partition("Attributes")[0]
    prompts = schema("prompts")
    build([put(tmp_path / "a.json", SIMPLE)], tmp_path / "p.jsonl")
    header, line, *_ = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert set(line) == set(prompts["$defs"]["PromptEvent"]["properties"])
    assert set(prompts["$defs"]["Header"]["required"]) == set(header)
    with pytest.raises(UsageError, match="no schema 'prompt'"):
        schema("prompt")
