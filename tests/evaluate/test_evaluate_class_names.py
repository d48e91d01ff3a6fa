"""Names of classes: one key for all spellings, and the words that prompts say, on the real lists."""

from __future__ import annotations

import ast
import re

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.action_classes import read_class_names
from figclip_cli.evaluate.datasets.class_names import normalised, positions, spoken


def openai_lists(shared_data, section):
    """Return classes and templates of one section of OpenAI's file of prompts."""
    text = (shared_data / "action" / "openai_clip_prompts.md").read_text(encoding="utf-8")
    body = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    found = dict(re.findall(r"^(classes|templates) = (\[.*?^\])", body, re.M | re.S))
    return ast.literal_eval(found["classes"]), ast.literal_eval(found["templates"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "Apply Eye Makeup"),
        ("YoYo", "Yo Yo"),
        ("TaiChi", "Tai Chi"),
        ("HandstandPushups", "Handstand Pushups"),
        ("Archery", "Archery"),
        ("brush_hair", "brush hair"),
        ("__sword__exercise_", "sword exercise"),
        ("Putting [something] on  a [surface]", "Putting something on a surface"),
        ("TVShow", "TV Show"),
        ("PlayingTV", "Playing TV"),
        ("Top10Plays", "Top10 Plays"),
        ("ÉcoleÉtude", "École Étude"),
        ("visiting a McDonalds", "visiting a McDonalds"),
        ("passing American football (in game)", "passing American football (in game)"),
        ("", ""),
    ],
)
def test_split_names_are_words(name, words):
    assert spoken(name, "split") == words
    assert spoken(name, "raw") == name


def test_spellings_of_one_name_share_a_key():
    spellings = ["HandstandPushups", "Handstand Pushups", "hand_stand-pushups", "v HandStandPushups"[2:]]
    assert {normalised(name) for name in spellings} == {"handstandpushups"}
    assert normalised("Putting [something] down") == normalised("Putting something down")
    assert normalised("kick") != normalised("kick_ball")


def test_openai_and_classind_agree_on_all_101_names_but_not_on_their_order(shared_data):
    openai, _ = openai_lists(shared_data, "UCF101")
    official = read_class_names(shared_data / "action" / "ucf101_classInd.txt")
    assert len(openai) == len(official) == 101
    ours = [spoken(name, "split") for name in official]
    assert {normalised(name) for name in openai} == {normalised(name) for name in ours}
    apart = [(theirs, own) for theirs, own in zip(openai, ours, strict=True) if normalised(theirs) != normalised(own)]
    assert apart == [
        ("Hammer Throw", "Hammering"),
        ("Hammering", "Hammer Throw"),
        ("Jump Rope", "Jumping Jack"),
        ("Jumping Jack", "Jump Rope"),
    ]


def test_split_names_of_ucf101_are_openais_letter_for_letter_but_for_one(shared_data):
    openai, _ = openai_lists(shared_data, "UCF101")
    words_of = {normalised(name): name for name in openai}
    official = read_class_names(shared_data / "action" / "ucf101_classInd.txt")
    apart = {
        spoken(name): words_of[normalised(name)] for name in official if spoken(name) != words_of[normalised(name)]
    }
    assert apart == {"Handstand Pushups": "Hand Stand Pushups"}


@pytest.mark.parametrize(("file", "count"), [("hmdb51_label_map.txt", 51), ("kinetics400_label_map.txt", 400)])
def test_real_label_maps_have_names_of_distinct_keys(shared_data, file, count):
    names = read_class_names(shared_data / "action" / file)
    assert len(names) == len({normalised(name) for name in names}) == count
    assert not any("_" in spoken(name) or "  " in spoken(name) for name in names)
    if count == 400:
        assert [spoken(name) for name in names] == list(names)


def test_two_spellings_of_one_class_are_refused():
    assert positions(["a b", "c"], "here") == {"ab": 0, "c": 1}
    for names, message in [
        (["Yo Yo", "x", "YoYo"], "'Yo Yo' and 'YoYo', one name spelt in two ways"),
        (["x", "x"], "the class 'x' twice"),
        (["--"], "no letters or digits"),
        ([], "has no classes"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            positions(names, "here")
        assert caught.value.message.startswith("here") and caught.value.hint


def write(tmp_path, text, name="classes.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "2 jump rope\r\n1 kick\r\n3 wave\r\n"),
        ("c.txt", "0 kick\n1 jump rope\n2 wave"),
        ("c.txt", 'kick\n\n"jump rope"\nwave\n'),
        ("c.csv", "id,name\n0,kick\n2,wave\n1,jump rope\n"),
        ("c.csv", '\ufeffid,name\n0,"kick"\n1,"jump rope"\n2,"wave"\n'),
        ("c.json", '{"wave": "2", "kick": "0", "jump rope": 1}'),
        ("c.json", '["kick", "jump rope", "wave"]'),
    ],
)
def test_class_files_of_every_form_give_names_by_index(tmp_path, name, text):
    assert read_class_names(write(tmp_path, text, name)) == ("kick", "jump rope", "wave")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "", "has no classes"),
        ("c.txt", "1 kick\n3 wave\n", "none has the number 2"),
        ("c.txt", "1 kick\n1 wave\n", "none has the number 2"),
        ("c.txt", "kick 0\nwave 1\n", "lines 'name number'"),
        ("c.txt", "0,kick\n1,wave\n", "no names or no header"),
        ("c.txt", "wave\nWave\n", "one name spelt in two ways"),
        ("c.csv", "id,name\n1,kick\n2,wave\n", "none has the number 0"),
        ("c.csv", "id,name\n0,kick\n1,\n", "line 3: name is empty"),
        ("c.csv", "id,name\n0,kick\n1,wave,x\n", "line 3: 3 columns"),
        ("c.json", '{"kick": true, "wave": 1}', "neither a JSON list"),
        ("c.json", '{"0": "kick"}', "none has the number 0"),
        ("c.json", '["kick", 3]', "neither a JSON list"),
        ("c.json", "7", "neither a JSON list"),
        ("c.json", "[" * 100_000, "nested too deep"),
        ("c.json", '["\\ud800 kick"]', "class file"),
    ],
)
def test_broken_class_files_name_what_is_wrong(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_class_names(write(tmp_path, text, name))
    assert caught.value.hint and "\n" not in caught.value.message
