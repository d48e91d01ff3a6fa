"""Action lists: recognised by content, classes matched by name, anything unclear refused with the line."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli.errors import FigclipError, InputError, UsageError
from figclip_cli.evaluate.datasets.action_lists import ACTION_FORMATS, read_action_set
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSplit, draw_classes, keep_classes

UCF_TEST = "Archery/v_Archery_g01_c01.avi\r\nYoYo/v_YoYo_g01_c01.avi\r\nArchery/v_Archery_g01_c02.avi\r\n"
UCF_TRAIN = "Archery/v_Archery_g08_c01.avi 1\nYoYo/v_YoYo_g08_c01.avi 2\n"
CLASS_IND = "1 Archery\r\n2 YoYo\r\n"
KINETICS = (
    "label,youtube_id,time_start,time_end,split\n"
    'air drumming,--a,3,13,val\n"using (not x, y)",b_c,101,111,val\nair drumming,zz,0,10,train\n'
)


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def named(split):
    return [(clip.clip_id, split.classes[clip.label]) for clip in split.clips]


def refused(message, *lists, error=InputError, **options):
    with pytest.raises(error, match=message) as caught:
        read_action_set(lists, **options)
    assert caught.value.hint and "\n" not in caught.value.message + caught.value.hint
    return caught.value


# UCF101


def test_the_real_ucf101_list_has_3783_clips_of_101_classes_with_or_without_a_class_file(shared_data):
    path, class_file = (shared_data / "action" / name for name in ("ucf101_testlist01.txt", "ucf101_classInd.txt"))
    by_folder, by_file = read_action_set([path]), read_action_set([path], class_names=[class_file])
    for found in (by_folder, by_file):
        assert (found.format, found.dataset_id) == ("ucf101", "ucf101")
        (split,) = found.splits
        assert split.name == "split 1" and len(split.clips) == 3783 and len(split.classes) == 101
        assert len(Counter(clip.label for clip in split.clips)) == 101
    assert by_folder.splits == by_file.splits  # the official list comes in the order of classInd.txt
    assert by_folder.sha256 != by_file.sha256
    pushups = {clip for clip, name in named(by_file.splits[0]) if name == "HandstandPushups"}
    assert len(pushups) == 28 and all(clip.startswith("v_HandStandPushups_") for clip in pushups)


def test_openais_names_in_their_other_order_give_every_clip_the_same_class(shared_data, write):
    from test_evaluate_class_names import openai_lists

    path = shared_data / "action" / "ucf101_testlist01.txt"
    openai = write("openai.txt", "\n".join(openai_lists(shared_data, "UCF101")[0]))
    (theirs,) = read_action_set([path], class_names=[openai]).splits
    (official,) = read_action_set([path]).splits
    assert theirs.classes[34] == "Hammer Throw" and official.classes[34] == "Hammering"
    for (clip, name), (same_clip, other) in zip(named(theirs), named(official), strict=True):
        assert clip == same_clip and name.replace(" ", "").lower() == other.lower()


def test_ucf101_lists_are_splits_and_full_takes_every_clip_once(write):
    test, train = write("testlist01.txt", UCF_TEST), write("trainlist01.txt", UCF_TRAIN)
    second = write("testlist02.txt", "YoYo/v_YoYo_g01_c01.avi\nArchery/v_Archery_g09_c01.avi\n")
    found = read_action_set([test, second, train])
    assert [(split.name, len(split.clips)) for split in found.splits] == [
        ("split 1", 3),
        ("split 2", 2),
        ("train split 1", 2),
    ]
    assert [split.name for split in read_action_set([test, second, train], split="2").splits] == ["split 2"]
    (full,) = read_action_set([test, second, train], split="full").splits
    assert full.name == "full" and len(full.clips) == 6 == len({clip.clip_id for clip in full.clips})
    refused("no split '3'", test, second, split="3", error=UsageError)
    refused("two lists have a split 'split 1'", test, test)


def test_a_train_lists_number_must_be_the_class_files(write):
    train, classes = write("trainlist01.txt", UCF_TRAIN), write("classInd.txt", CLASS_IND)
    found = read_action_set([train], class_names=[classes])
    assert named(found.splits[0]) == [("v_Archery_g08_c01", "Archery"), ("v_YoYo_g08_c01", "YoYo")]
    other = write("other.txt", "1 YoYo\n2 Archery\n")
    refused("'Archery' has the number 1, the class file has it at 2", train, class_names=[other])
    two = write("trainlist02.txt", UCF_TRAIN + "Archery/v_Archery_g09_c01.avi 2\n")
    refused("folder 'Archery' has the number 2, before it had 1", two)


def test_ucf101_lines_that_cannot_be_meant_are_refused(write):
    classes = write("classInd.txt", CLASS_IND)
    unknown = write("a.txt", UCF_TEST + "Archeri/v_x.avi\n")
    assert "Archery" in refused("line 4: class 'Archeri' is not one of the 2", unknown, class_names=[classes]).hint
    refused("'Yo_Yo', one name spelt in two ways", write("b.txt", UCF_TEST + "Yo_Yo/v_x.avi\n"))
    refused("line 4: clip v_YoYo_g01_c01 comes again$", write("c.txt", UCF_TEST + "YoYo/v_YoYo_g01_c01.avi"))
    twice = write("d.txt", UCF_TEST + "Archery/v_YoYo_g01_c01.avi")
    refused("comes again, as 'Archery' after 'YoYo'", twice)
    refused("elsewhere 'YoYo'", write("e.txt", UCF_TEST), write("f.txt", "Archery/v_YoYo_g01_c01.avi"), split="full")
    refused("no known format", write("g.txt", "v_x.avi\nv_y.avi\n"))
    refused("no known format", write("h.txt", "Archery/v_x.avi 1\nArchery/v_y.avi\n"))


def test_a_list_of_folders_from_elsewhere_is_not_called_ucf101(write):
    found = read_action_set([write("mine.txt", "wave/a.mp4\nrun/b.mp4\n")])
    assert (found.format, found.dataset_id) == ("ucf101", "mine.txt")
    assert named(found.splits[0]) == [("a", "wave"), ("b", "run")]


# HMDB51


def test_the_real_hmdb51_csv_has_three_splits_of_1530_test_clips_and_6766_in_all(shared_data):
    path, label_map = (shared_data / "action" / name for name in ("hmdb51.csv", "hmdb51_label_map.txt"))
    found = read_action_set([path], class_names=[label_map])
    assert (found.format, found.dataset_id) == ("hmdb51-csv", "hmdb51")
    assert [(split.name, len(split.clips)) for split in found.splits] == [
        ("split 1", 1530),
        ("split 2", 1530),
        ("split 3", 1530),
    ]
    for split in found.splits:
        assert split.classes == tuple(label_map.read_text().split())
        assert set(Counter(clip.label for clip in split.clips).values()) == {30}
    assert read_action_set([path]).splits == found.splits
    (full,) = read_action_set([path], split="full").splits
    assert len(full.clips) == 6766 and len(full.classes) == 51
    (second,) = read_action_set([path], split="2").splits
    assert second == found.splits[1]


@pytest.fixture
def hmdb_folder(write, tmp_path):
    tags = {"kick": ["2 1 0", "1 2 1"], "kick_ball": ["2 2 2", "0 0 1"]}
    for name, clips in tags.items():
        for split in range(3):
            lines = "".join(
                f"x[{n}]!_{name}_f_cm_np1_ba_bad_{n}.avi {t.split()[split]} \n" for n, t in enumerate(clips)
            )
            write(f"splits/{name}_test_split{split + 1}.txt", lines)
    write("splits/._kick_test_split1.txt", "Mac OS leaves such files")
    return tmp_path / "splits"


def test_the_official_hmdb51_folder_gives_test_clips_and_full_gives_all(hmdb_folder, write):
    found = read_action_set([hmdb_folder])
    assert found.format == "hmdb51-folder" and found.splits[0].classes == ("kick", "kick_ball")
    kick, ball = "x[{}]!_kick_f_cm_np1_ba_bad_{}", "x[{}]!_kick_ball_f_cm_np1_ba_bad_{}"
    assert [named(split) for split in found.splits] == [
        [(kick.format(0, 0), "kick"), (ball.format(0, 0), "kick_ball")],
        [(kick.format(1, 1), "kick"), (ball.format(0, 0), "kick_ball")],
        [(ball.format(0, 0), "kick_ball")],
    ]
    (full,) = read_action_set([hmdb_folder], split="full").splits
    assert len(full.clips) == 4
    swapped = read_action_set([hmdb_folder], split="1", class_names=[write("c.csv", "id,name\n0,kick ball\n1,kick\n")])
    assert named(swapped.splits[0]) == [(kick.format(0, 0), "kick"), (ball.format(0, 0), "kick ball")]


def test_an_hmdb51_folder_with_gaps_is_refused(hmdb_folder, tmp_path):
    (hmdb_folder / "kick_test_split3.txt").write_text("a.avi 3\n")
    refused("line 1: the tag is no tag 0, 1 or 2", hmdb_folder)
    (hmdb_folder / "kick_test_split3.txt").write_text("a.avi\n")
    refused("line 1: the tag is no tag 0, 1 or 2", hmdb_folder)
    (hmdb_folder / "kick_test_split3.txt").unlink()
    refused("no file of class 'kick' for split 3", hmdb_folder)
    (tmp_path / "empty").mkdir()
    refused("folder without files <class>_test_split1.txt", tmp_path / "empty")


# Kinetics and plain csv


def test_kinetics_csv_makes_clip_ids_of_times_and_takes_one_split(write):
    path = write("all.csv", KINETICS)
    refused("mixes the splits 'val', 'train'", path)
    found = read_action_set([path], split="val")
    assert (found.format, found.dataset_id) == ("kinetics-csv", "kinetics")
    assert found.splits[0].name == "val" and found.splits[0].classes == ("air drumming", "using (not x, y)")
    assert named(found.splits[0]) == [("--a_000003_000013", "air drumming"), ("b_c_000101_000111", "using (not x, y)")]
    assert len(read_action_set([path], split="full").splits[0].clips) == 3
    assert "val" in refused("no split 'vall'", path, split="vall", error=UsageError).hint
    only = write("val.csv", "\n".join(KINETICS.splitlines()[:3]))
    assert read_action_set([only]).splits[0].name == "val"


def test_kinetics_classes_come_from_the_class_file_where_there_is_one(write, shared_data):
    path = write("val.csv", "label,youtube_id,time_start,time_end,split,is_cc\nAir Drumming,a,1,11,val,0\n")
    found = read_action_set([path], class_names=[shared_data / "action" / "kinetics400_label_map.txt"])
    assert found.dataset_id == "kinetics400" and len(found.splits[0].classes) == 400
    assert named(found.splits[0]) == [("a_000001_000011", "air drumming")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x,a,1.5,11,val", "line 2: time_start is '1.5', not whole seconds"),
        ("x,a,-1,11,val", "time_start"),
        (",a,1,11,val", "line 2: label is empty"),
        ("x,,1,11,val", "line 2: youtube_id is empty"),
        ("x,a,1,11,", "line 2: split is empty"),
        ("x,a,1,11", "line 2: 4 columns, the header has 5"),
        ("x,a,1,11,val\ny,a,1,11,val", "line 3: clip a_000001_000011 comes again, as 'y' after 'x'"),
    ],
)
def test_broken_kinetics_rows_name_the_line(write, row, message):
    refused(message, write("k.csv", KINETICS.splitlines()[0] + "\n" + row + "\n"))


@pytest.mark.parametrize("header", ["clip_id,label", "label,video_id", "video,n,class", "action,clip_id"])
def test_plain_csv_columns_are_found_by_name(write, header):
    cells = {"n": "1", "label": "wave", "class": "wave", "action": "wave"}
    row = ",".join(cells.get(column, "some/a.mp4") for column in header.split(","))
    found = read_action_set([write("mine.csv", f"\n{header}\n\n{row}\n")])
    assert (found.format, found.dataset_id, found.splits[0].name) == ("csv", "mine.csv", "mine")
    assert named(found.splits[0]) == [("a", "wave")]


def test_plain_csv_may_have_a_split_column(write):
    path = write("mine.csv", "video,label,split\na,wave,test\nb,kick,train\n")
    (split,) = read_action_set([path], split="test").splits
    assert named(split) == [("a", "wave")] and split.classes == ("kick", "wave")


# Something-Something


SSV2 = [
    {"id": "7", "label": "putting cup on table", "template": "Putting [something] on [something]", "placeholders": []},
    {"id": 8, "label": "x", "template": "[Something] falling", "placeholders": []},
]


def test_ssv2_classes_are_templates_in_the_order_of_the_labels_file_and_all_compete(write):
    path = write("validation.json", json.dumps(SSV2))
    labels = {"Something falling": "2", "Bending something": "0", "Putting something on something": "1"}
    found = read_action_set([path], class_names=[write("labels.json", json.dumps(labels))])
    (split,) = found.splits
    assert (found.format, found.dataset_id, split.name) == ("ssv2", "ssv2", "validation")
    assert split.classes == ("Bending something", "Putting something on something", "Something falling")
    assert split.clips == (ActionClip("7", 1), ActionClip("8", 2))
    assert named(read_action_set([path]).splits[0])[0] == ("7", "Putting something on something")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({}, "is not a JSON list"),
        ([], "has no classes"),
        ([3], "record 1 is not a JSON object"),
        ([{"id": "7", "label": "x"}], "record 1: 'template' is missing"),
        ([SSV2[0], {"id": True, "template": "x"}], "record 2: 'id' is true"),
        ([{"id": "7", "template": "\ud800"}], "surrogate"),
        ([SSV2[0], SSV2[0]], "record 2: clip 7 comes again"),
    ],
)
def test_broken_ssv2_records_are_named(write, records, message):
    refused(message, write("v.json", json.dumps(records)))


# Lists of path and index

INDEXED = "Archery/v_Archery_g01_c01.avi 0\nYoYo/v_YoYo_g01_c01.avi 1\n"


def test_indexed_lists_need_a_class_file_of_their_own_order(write):
    path = write("ucf_val.txt", INDEXED)
    refused("has indexes, not names", path)
    found = read_action_set([path], class_names=[write("labels.csv", "id,name\n0,Archery\n1,YoYo\n")])
    assert (found.format, found.dataset_id, found.splits[0].name) == ("indexed", "ucf101", "ucf_val")
    assert named(found.splits[0]) == [("v_Archery_g01_c01", "Archery"), ("v_YoYo_g01_c01", "YoYo")]
    swapped = write("swapped.txt", "Yo Yo\nArchery\n")
    refused("line 1: index 0 is 'Yo Yo' in the class file, the path says 'Archery'", path, class_names=[swapped])
    one_based = write("one.txt", INDEXED.replace("avi 1", "avi 2").replace("avi 0", "avi 1"))
    refused(
        "index 1 is 'YoYo' in the class file, the path says 'Archery'", one_based, class_names=[found_classes(write)]
    )


def found_classes(write):
    return write("map.txt", "Archery\nYoYo\nWave\n")


def test_flat_lists_are_checked_by_the_names_that_ucf101_and_hmdb51_put_into_files(write):
    ucf = write("val1.txt", "v_HandStandPushups_g01_c01.avi 0\n")
    assert read_action_set([ucf], class_names=[write("a.txt", "HandstandPushups\nYoYo")]).dataset_id == "ucf101"
    refused("the path says 'HandstandPushups'", ucf, class_names=[write("b.txt", "YoYo\nHandstandPushups")])
    hmdb = write("val1.txt", "A_b_kick_ball_f_cm_np1_ri_bad_0.avi 0\nA_kick_u_nm_np2_fr_goo_10.avi 1\n")
    found = read_action_set([hmdb], class_names=[write("c.csv", "id,name\n0,kick ball\n1,kick\n")])
    assert found.dataset_id == "hmdb51" and [clip.label for clip in found.splits[0].clips] == [0, 1]
    refused(
        "index 0 is 'kick' in the class file, the path says 'kick_ball'",
        hmdb,
        class_names=[write("d", "kick\nkick_ball")],
    )


def test_every_name_of_a_real_hmdb51_file_ends_in_its_class_so_that_both_public_orders_are_told_apart(
    shared_data, write
):
    csv_file, label_map = (shared_data / "action" / name for name in ("hmdb51.csv", "hmdb51_label_map.txt"))
    (full,) = read_action_set([csv_file], split="full", class_names=[label_map]).splits
    flat = write("all.txt", "".join(f"{clip.clip_id}.avi {clip.label}\n" for clip in full.clips))
    found = read_action_set([flat], class_names=[label_map])
    assert found.splits[0].clips == full.clips
    other = label_map.read_text().replace("kick\nkick_ball", "kick_ball\nkick")
    refused("the path says", flat, class_names=[write("other.txt", other)])


def test_folders_that_are_no_classes_are_not_compared(write):
    path = write("val.txt", "val/0wR5jVB-WPk_000417_000427.mp4 1\nclip with space.mp4 0\n")
    found = read_action_set([path], class_names=[write("c.txt", "wave\nrun\n")])
    assert named(found.splits[0]) == [("0wR5jVB-WPk_000417_000427", "run"), ("clip with space", "wave")]
    assert found.dataset_id == "val.txt"


def test_each_indexed_list_may_have_a_class_file_of_its_own(write):
    lists = [write(f"draw{n}.txt", f"val/{n}.mp4 0\n") for n in range(3)]
    files = [write(f"names{n}.csv", f"id,name\n0,class {n}\n1,other\n") for n in range(3)]
    found = read_action_set(lists, class_names=files)
    assert [named(split) for split in found.splits] == [[(str(n), f"class {n}")] for n in range(3)]
    assert found.choices["class_files"] == ["names0.csv", "names1.csv", "names2.csv"]
    refused("class files that differ", *lists, class_names=files, split="full")
    refused("2 class files for 3 lists", *lists, class_names=files[:2], error=UsageError)
    assert len(read_action_set(lists, class_names=files[:1], split="full").splits[0].clips) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 2\n", "line 1: index 2, but the class file has 2 classes, 0 to 1"),
        ("a.mp4 0\nb.mp4\n", "no known format"),
        ("a.mp4 -1\n", "no known format"),
        ("frames/a 120 0\n", "two numbers after the path"),
        ("a.mp4 0\nb/a.avi 0\n", "line 2: clip a comes again"),
        ("/ 0\n", "line 1: no clip"),
    ],
)
def test_broken_indexed_lines_are_named(write, text, message):
    refused(message, write("v.txt", text), class_names=[write("c.txt", "wave\nrun\n")])


# All formats


def test_lists_that_do_not_go_together_are_refused(write, tmp_path):
    ucf, kinetics = write("testlist01.txt", UCF_TEST), write("k.csv", KINETICS)
    refused("is of the format ucf101, .*k.csv of kinetics-csv", ucf, kinetics)
    refused("not of the format ssv2", ucf, format="ssv2")
    assert "ucf101" in refused("no format 'ucf'", ucf, format="ucf", error=UsageError).hint
    refused("no action list", error=UsageError)
    refused("does not exist", tmp_path / "absent.txt")
    refused("is empty", write("empty.txt", "\n \n"))
    refused("no known format", write("words.txt", "some, text\n"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    refused("not UTF-8", tmp_path / "binary.txt")


def test_a_format_can_be_asked_for_where_content_leaves_it_open(write):
    path = write("mine.txt", UCF_TRAIN)
    assert read_action_set([path], format="ucf101").splits[0].name == "mine"
    hmdb = write("h.csv", "video_id,label,split1,split2,split3\na.avi,wave_test,2,1,0\n")
    assert read_action_set([hmdb], format="csv").splits[0].classes == ("wave_test",)
    assert read_action_set([hmdb], split="1").splits[0].classes == ("wave",)
    refused("split 'split 2' has no clips", hmdb)


def test_the_hash_covers_every_file_and_the_choices_are_plain_json(write):
    path, classes = write("testlist01.txt", UCF_TEST), write("classInd.txt", CLASS_IND)
    before = read_action_set([path], class_names=[classes])
    assert json.loads(json.dumps(before.choices)) == before.choices
    write("classInd.txt", CLASS_IND + "3 Wave\n")
    after = read_action_set([path], class_names=[classes])
    assert before.sha256 != after.sha256 and len(after.splits[0].classes) == 3


# Fewer classes

SPLIT = ActionSplit(
    "val", tuple(f"class {n}" for n in range(20)), tuple(ActionClip(f"c{n}", n % 20) for n in range(50))
)


def test_kept_classes_have_their_clips_relabelled_in_the_order_of_the_file():
    kept = keep_classes(SPLIT, ["Class_7", "class 2"])
    assert kept.classes == ("class 2", "class 7") and kept.name == "val"
    assert kept.clips == tuple(ActionClip(f"c{n}", [2, 7].index(n % 20)) for n in range(50) if n % 20 in (2, 7))
    for names, message in [
        (["class 99"], "'class 99' is not"),
        (["class 1", "Class1"], "two ways"),
        ([], "no classes"),
    ]:
        with pytest.raises(InputError, match=message):
            keep_classes(SPLIT, names)


def test_draws_are_seeded_exclude_by_name_and_keep_only_their_clips():
    drawn = draw_classes(SPLIT, count=8, draws=3, seed=5, exclude=["CLASS_3", "class-4", "not there"])
    assert [split.name for split in drawn] == ["val draw 1", "val draw 2", "val draw 3"]
    assert len({split.classes for split in drawn}) == 3
    for split in drawn:
        assert len(split.classes) == 8 and not {"class 3", "class 4"} & set(split.classes)
        assert list(split.classes) == sorted(split.classes, key=SPLIT.classes.index)
        wanted = [clip for clip in SPLIT.clips if SPLIT.classes[clip.label] in split.classes]
        assert named(split) == [(clip.clip_id, SPLIT.classes[clip.label]) for clip in wanted]
    assert drawn == draw_classes(SPLIT, count=8, draws=3, seed=5, exclude=["class 3", "class 4"])
    with pytest.raises(InputError, match="none of the 2 classes to exclude"):
        draw_classes(SPLIT, count=8, draws=3, seed=5, exclude=["of another", "data set"])
    assert drawn[:2] == draw_classes(SPLIT, count=8, draws=2, seed=5, exclude=["class 3", "class 4"])
    assert drawn != draw_classes(SPLIT, count=8, draws=3, seed=6, exclude=["class 3", "class 4"])
    everything = draw_classes(SPLIT, count=20, draws=1, seed=0)[0]
    assert (everything.classes, everything.clips) == (SPLIT.classes, SPLIT.clips)


def test_draws_do_not_depend_on_the_order_of_the_file_and_reach_all_classes_alike():
    turned = ActionSplit("val", SPLIT.classes[::-1], tuple(ActionClip(c.clip_id, 19 - c.label) for c in SPLIT.clips))
    for mine, theirs in zip(
        draw_classes(SPLIT, count=5, draws=4, seed=1), draw_classes(turned, count=5, draws=4, seed=1), strict=True
    ):
        assert set(mine.classes) == set(theirs.classes)
    counts = Counter(name for split in draw_classes(SPLIT, count=5, draws=2000, seed=2) for name in split.classes)
    expected, deviation = 2000 / 4, np.sqrt(2000 * 0.25 * 0.75)
    assert len(counts) == 20 and all(abs(count - expected) < 5 * deviation for count in counts.values())


@pytest.mark.parametrize(
    ("count", "draws", "message"),
    [
        (0, 1, "1 draws of 0"),
        (1, 1, "1 draws of 1"),
        (2, 0, "0 draws"),
        (2, 10_001, "10001 draws"),
        (19, 1, "18 are left"),
    ],
)
def test_draws_that_cannot_be_made_are_usage_errors(count, draws, message):
    with pytest.raises(UsageError, match=message):
        draw_classes(SPLIT, count=count, draws=draws, seed=0, exclude=["class 1", "class 2"])


def test_a_draw_without_clips_is_refused():
    with pytest.raises(InputError, match="has no clips"):
        draw_classes(ActionSplit("val", ("a", "b", "c", "d"), (ActionClip("x", 0),)), count=2, draws=9, seed=0)


# Whatever a file holds

WORDS = st.sampled_from(
    [
        "Archery",
        "Yo Yo",
        "/",
        " ",
        "\n",
        ",",
        "0",
        "1",
        "2",
        '"',
        "a.avi",
        "label",
        "video_id",
        "split1",
        "split2",
        "split3",
    ]
    + ["youtube_id", "time_start", "time_end", "split", "id,name", "\t", "\r\n", "\x00", "é", "[", "_", "<end_of_text>"]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map("".join))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(["0", "1"])
)
KEYS = st.one_of(st.sampled_from(["id", "label", "template", "placeholders"]), st.text(max_size=4))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
QUIETLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ends_well(lists, **options):
    try:
        found = read_action_set(lists, **options)
    except FigclipError as error:
        assert error.message and error.hint
        return
    for split in found.splits:
        assert split.clips and all(0 <= clip.label < len(split.classes) for clip in split.clips)
        assert len({clip.clip_id for clip in split.clips}) == len(split.clips)


@QUIETLY
@given(
    text=TEXTS, classes=TEXTS, split=st.sampled_from([None, "full", "1"]), form=st.sampled_from([None, *ACTION_FORMATS])
)
def test_any_text_ends_in_a_set_or_a_deliberate_error(write, text, classes, split, form):
    path, class_file = write("any.txt", text), write("classes.txt", classes)
    ends_well([path], split=split, format=form)
    ends_well([path], class_names=[class_file], split=split)
    ends_well([write("trainlist1.txt", UCF_TRAIN)], class_names=[class_file], split=split)


@QUIETLY
@given(value=JSON, classes=JSON)
def test_any_json_ends_in_a_set_or_a_deliberate_error(write, value, classes):
    path, class_file = write("any.json", json.dumps(value)), write("classes.json", json.dumps(classes))
    ends_well([path])
    ends_well([path], class_names=[class_file], split="full")
    ends_well([write("val.txt", INDEXED)], class_names=[class_file])
