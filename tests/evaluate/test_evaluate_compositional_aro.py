"""ARO: regions with a true and a false caption, and captions against shuffles of their own words."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from live_numbers import part_accuracy

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.aro import SYMMETRIC_RELATIONS
from figclip_cli.evaluate.datasets.aro_order import SHUFFLES, cleaned, shuffled_captions, tokens
from figclip_cli.evaluate.datasets.choices import Look
from figclip_cli.evaluate.datasets.compositional import read_compositional
from figclip_cli.evaluate.datasets.word_classes import word_classes

CAPTION = "A young girl in a red coat holds the leash of two large dogs next to the old man's white car"


def region(relation="riding", **changed):
    box = {"bbox_x": 3, "bbox_y": 0, "bbox_w": 20, "bbox_h": 10}
    texts = {"true_caption": f"the man is {relation} the dog", "false_caption": f"the dog is {relation} the man"}
    attributes = {"attributes": ["red", "tall"], "relation_name": relation}
    return {"image_path": "2361911.jpg", **box, **texts, **attributes, **changed}


def write(tmp_path, records, name="file.json"):
    path = tmp_path / name
    path.write_text(json.dumps(records))
    return path


def order(tmp_path, records, benchmark="aro-coco-order", **options):
    return read_compositional(benchmark, [write(tmp_path, records)], **options)


def test_a_relation_is_a_region_with_two_captions(tmp_path):
    read = order(tmp_path, [region()], "aro-vg-relation")
    (choice,) = read.choices
    assert choice.looks == (Look(image="2361911.jpg", box=(3, 0, 20, 10)),)
    assert choice.texts == ("the man is riding the dog", "the dog is riding the man")
    assert (choice.part, choice.group) == ("vg-relation", "riding")
    rule = read.rules["vg-relation"]
    assert (rule.headline, rule.official_ties, rule.min_group_items) == ("macro", "strict", 0)


def test_symmetric_relations_do_not_count(tmp_path):
    read = order(tmp_path, [region("riding"), region("on"), region("on"), region("next to")], "aro-vg-relation")
    assert len(read.choices) == 4 and len(SYMMETRIC_RELATIONS) == 157
    assert read.remarks["symmetric_relations_dropped"] == ["next to"] and read.remarks["symmetric_items_dropped"] == 1
    groups = [choice.group for choice in read.choices]
    accuracy = part_accuracy(np.array([True, True, False, False]), read.rules["vg-relation"], groups)
    assert (accuracy.percent, accuracy.items, accuracy.groups) == (75.0, 3, 2)


def test_attribute_pairs_with_fewer_than_25_items_do_not_count(tmp_path):
    records = [region(attributes=["old", "red"])] * 25 + [region(attributes=["red", "old"])] * 24
    read = order(tmp_path, records, "aro-vg-attribution")
    assert {choice.group for choice in read.choices} == {"old_red", "red_old"}
    assert read.remarks == {"rare_items_dropped": 24, "rare_attribute_pairs_dropped": 1}
    right = np.arange(49) < 5
    groups = [choice.group for choice in read.choices]
    accuracy = part_accuracy(right, read.rules["vg-attribution"], groups)
    assert (accuracy.percent, accuracy.items, accuracy.groups) == (20.0, 25, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bbox_w": 0}, "record 1: the box is 0 by 10 pixels"),
        ({"bbox_h": -4}, "record 1: the box is 20 by -4 pixels"),
        ({"bbox_x": "3"}, "'bbox_x' is '3'"),
        ({"bbox_y": True}, "'bbox_y' is true"),
        ({"bbox_y": 1.5}, "'bbox_y' is 1.5"),
        ({"bbox_w": 1 << 40}, "'bbox_w' is 1099511627776"),
        ({"false_caption": " "}, "'false_caption' is ' '"),
        ({"relation_name": None}, "'relation_name' is null"),
    ],
)
def test_a_broken_region_is_refused(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        order(tmp_path, [region(), region(**changed)], "aro-vg-relation")


@pytest.mark.parametrize("attributes", [None, [], ["red"], ["red", 3], ["a", "b", "c"], "ab"])
def test_broken_attributes_are_refused(tmp_path, attributes):
    with pytest.raises(InputError, match="attributes"):
        order(tmp_path, [region(attributes=attributes)], "aro-vg-attribution")


def test_every_caption_is_a_choice_among_five_and_ties_are_right_officially(tmp_path):
    records = [{"image": "val2014/a.jpg", "caption": [CAPTION, "Two dogs."]}, {"image": "b.jpg", "caption": [CAPTION]}]
    read = order(tmp_path, records)
    assert [choice.id for choice in read.choices] == [
        "coco-order/val2014/a.jpg/0",
        "coco-order/val2014/a.jpg/1",
        "coco-order/b.jpg/0",
    ]
    assert read.choices[0].texts[0] == CAPTION.lower() and len(read.choices[0].texts) == 5
    assert read.rules["coco-order"].official_ties == "lenient" and read.rules["coco-order"].headline == "micro"
    assert read.remarks["seed"] == 0 and read.remarks["shuffles"] == "figclip-aro-order-1"


def test_shuffles_depend_on_seed_image_and_caption_number_and_not_on_what_else_is_read(tmp_path):
    records = [{"image": f"{name}.jpg", "caption": [CAPTION, CAPTION]} for name in "abc"]
    there = {choice.id: choice.texts for choice in order(tmp_path, records).choices}
    turned = {choice.id: choice.texts for choice in order(tmp_path, records[:0:-1]).choices}
    assert len(turned) == 4 and all(there[name] == texts for name, texts in turned.items())
    other = {choice.id: choice.texts for choice in order(tmp_path, records, seed=1).choices}
    assert len(set(there.values())) == 6 and all(there[name] != texts for name, texts in other.items())


def test_the_shuffles_of_one_caption_stay_what_they_are():
    assert shuffled_captions("A red dog chases two small cats.", seed=0, image="a.jpg", number=0) == (
        "a small cats chases two red dog",
        "two red dog chases small cats a",
        "a dog red two small chases cats",
        "cats a red dog chases two small",
    )


@pytest.mark.parametrize("seed", range(5))
def test_each_shuffle_moves_only_what_it_may(seed):
    words = tokens(CAPTION.lower())
    classes = word_classes(words)
    nouns, rest, within, threes = (text.split() for text in shuffled_captions(CAPTION, seed=seed, image="a", number=0))
    for shuffled in (nouns, rest, within, threes):
        assert Counter(shuffled) == Counter(words)
    for place, word in enumerate(words):
        assert nouns[place] == word or classes[place] != "other"
        assert rest[place] == word or classes[place] == "other"
    for kind in ("noun", "adjective"):
        places = [place for place, found in enumerate(classes) if found == kind]
        assert Counter(nouns[place] for place in places) == Counter(words[place] for place in places)
    chunks = [tuple(words[start : start + 3]) for start in range(0, len(words), 3)]
    assert [Counter(within[start : start + 3]) for start in range(0, len(words), 3)] == list(map(Counter, chunks))
    assert threes in [[word for chunk in found for word in chunk] for found in orders(chunks, threes)]


def orders(chunks, words):
    """Return the orders of the chunks that begin like the words; a simple search."""
    found, grown = [[]], []
    while found and len(found[0]) < len(chunks):
        grown = [
            [*begun, chunk]
            for begun in found
            for chunk in set(chunks)
            if begun.count(chunk) < chunks.count(chunk)
            and words[: sum(map(len, begun)) + len(chunk)] == [word for one in [*begun, chunk] for word in one]
        ]
        found = grown
    return found


def test_a_shuffle_takes_every_order_equally_often():
    caption = "cats dogs cows"
    counts = Counter(shuffled_captions(caption, seed=seed, image="a", number=0)[2] for seed in range(1200))
    assert len(counts) == 6 and all(140 < count < 260 for count in counts.values())


def test_shuffles_that_change_nothing_are_kept_and_counted(tmp_path):
    read = order(tmp_path, [{"image": "a.jpg", "caption": ["a dog", "the dog's tail"]}])
    unchanged = read.remarks["unchanged_shuffles"]
    assert list(unchanged) == list(SHUFFLES) and unchanged["nouns-and-adjectives"] >= 1
    by_hand = Counter()
    for choice in read.choices:
        true = choice.texts[0].replace("'s", " 's").split()
        by_hand.update(kind for kind, text in zip(SHUFFLES, choice.texts[1:], strict=True) if text.split() == true)
    assert unchanged == {kind: by_hand[kind] for kind in SHUFFLES}


def test_captions_are_cleaned_as_the_original_does():
    assert cleaned('  A "Dog" (brown) #1: runs; fast!!  ~OK.\n') == "a dog brown 1 runs fast ok"
    assert cleaned("Man's hat, well-worn") == "man's hat, well-worn"
    assert cleaned(" ".join(map(str, range(40)))) == " ".join(map(str, range(30)))


def test_tokens_lose_nothing_but_white_space():
    assert tokens("The dog's well-worn hat, isn't 3.5 ft?") == ("The dog 's well-worn hat , is n't 3.5 ft ?".split())
    letters = "ab'- ,.3\tné’t"
    generator = random.Random(0)
    for _ in range(500):
        text = "".join(generator.choices(letters, k=12))
        assert "".join(tokens(text)) == "".join(text.replace("’", "'").split())


def test_options_that_a_file_brings_are_taken_as_they_are(tmp_path):
    options = [["a dog runs .", "runs a dog", "a dog runs ."], ["x y", "y x"]]
    read = order(tmp_path, [{"image": "a.jpg", "caption": ["A", "B"], "caption_options": options}], "aro-flickr-order")
    assert [list(choice.texts) for choice in read.choices] == options
    assert read.remarks["unchanged_shuffles"]["any"] == 1 and "seed" not in read.remarks
    mixed = [{"image": "a.jpg", "caption_options": options}, {"image": "b.jpg", "caption": ["a dog"]}]
    with pytest.raises(InputError, match="only some records"):
        order(tmp_path, mixed)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": "a.jpg"}, "'caption' is null"),
        ({"image": "a.jpg", "caption": "a dog"}, "expected a list of texts"),
        ({"image": "a.jpg", "caption": ["a dog", ""]}, "holds ''"),
        ({"image": "a.jpg", "caption": ["..."]}, "without words"),
        ({"image": "a.jpg", "caption_options": 3}, "'caption_options' is 3"),
        ({"image": "a.jpg", "caption_options": [["alone"]]}, "without a shuffle"),
        ({"caption": ["a dog"]}, "'image' is missing"),
    ],
)
def test_a_broken_record_is_refused(tmp_path, record, message):
    with pytest.raises(InputError, match=message):
        order(tmp_path, [record])


def test_an_image_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="twice"):
        order(tmp_path, [{"image": "a.jpg", "caption": ["a dog"]}] * 2)


@pytest.mark.parametrize(
    ("caption", "nouns", "adjectives"),
    [
        ("A man riding a wave on top of a surfboard .", "man wave top surfboard", ""),
        ("Two young boys play with a frisbee in the park", "boys frisbee park", "young"),
        ("A black and white cat is sitting on an orange chair .", "cat chair", "black white orange"),
        ("A boy plays tennis on a green court .", "boy tennis court", "green"),
        ("People walk past a tall building .", "People building", "tall"),
        ("The traffic lights on the street are red .", "traffic lights street", "red"),
        ("A man painting a wall next to a painting of a dog", "man wall painting dog", ""),
        ("A large bird stands in front of some water", "bird front water", "large"),
        ("She is happy to open the wooden door", "door", "happy wooden"),
        ("A woman in red holds her child's hand", "woman red child hand", ""),
        ("The light-colored t-shirt does n't fit", "t-shirt", "light-colored"),
    ],
)
def test_nouns_and_adjectives_of_captions_are_found(caption, nouns, adjectives):
    words = tokens(caption)
    classes = word_classes(words)
    found = {kind: [w for w, c in zip(words, classes, strict=True) if c == kind] for kind in ("noun", "adjective")}
    assert found == {"noun": nouns.split(), "adjective": adjectives.split()}
