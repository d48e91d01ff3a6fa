"""VL-CheckList: yamls and annotations in the repository's layout."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choices import Average, Look
from figclip_cli.evaluate.datasets.compositional import read_compositional

ITEM = ["VG_100K/1.jpg", {"POS": ["small floor", "unused"], "NEG": ["large floor"]}]


def annotation(folder, place, items=(ITEM,)):
    path = folder / "data" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(items)))
    return path


def config(folder, place, name, root="vg/", layout="TUPLE_JSON"):
    path = folder / "corpus" / "v1" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'ANNO_PATH: "{name}"\nIMG_ROOT: "{root}"\nTYPE: "{layout}"')
    return path


def read(*paths):
    return read_compositional("vl-checklist", list(paths))


def test_the_type_is_said_by_the_place_of_the_yaml_and_not_by_the_annotation(tmp_path, monkeypatch):
    annotation(tmp_path, "Attribute/vg/spatial.json")
    path = config(tmp_path, "Relation/spatial/vg.yaml", "data/Attribute/vg/spatial.json")
    monkeypatch.chdir(tmp_path)
    made = read(path)
    (choice,) = made.choices
    assert made.averages == (Average("Relation", ("Relation/vg",)),)
    assert (choice.part, choice.group, choice.id) == ("Relation/vg", "spatial", "Relation/vg/spatial/vg/0")
    assert choice.texts == ("small floor", "large floor")
    assert choice.looks == (Look(image="vg/VG_100K/1.jpg"),)


def test_an_annotation_is_found_beside_the_yaml_in_the_working_folder_or_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = annotation(tmp_path, "a.json")
    for number, name in enumerate((str(one), "data/a.json", "../../../../../data/a.json")):
        (choice,) = read(config(tmp_path, f"Object/Size/large/hake_{number}.yaml", name, "/images/hake")).choices
        assert choice.looks[0].image == "/images/hake/VG_100K/1.jpg"
        assert (choice.part, choice.group) == ("Object/hake", "size/large")
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match="ANNO_PATH 'data/a.json' is neither beside it nor in the working folder"):
        read(config(tmp_path, "Object/Size/large/hake.yaml", "data/a.json"))


def test_a_folder_with_yamls_is_read_through_them_and_averaged_over_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {
        "Attribute/size/vaw.yaml": "Attribute/vaw/size.json",
        "Attribute/size/vg.yaml": "Attribute/vg/size.json",
        "Object/Location/mid/swig_agent.yaml": "Object/Location/swig_location/swig_agent/swig_agent_mid.json",
        "Object/Location/mid/vg_obj.yaml": "Object/Location/vg_location/vg_obj_mid.json",
        "Object/Location/mid/vg_subj.yaml": "Object/Location/vg_location/vg_subj_mid.json",
        "Relation/action/hake.yaml": "Relation/hake_action.json",
        "Relation/action/vg.yaml": "Relation/vg/action.json",
    }
    for place, name in places.items():
        annotation(tmp_path, name)
        root = next((root for root in ("swig/", "hake/") if root[:4] in place), "vg/")
        config(tmp_path, place, f"data/{name}", root)
    annotation(tmp_path, "Relation/swig_action.json")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sample.yaml").write_text("MAX_NUM: 2000")
    through_yamls = read(tmp_path)
    assert len(through_yamls.choices) == 7
    assert through_yamls.remarks["ignored_files"] == ["configs/sample.yaml", "data/Relation/swig_action.json"]
    assert through_yamls.averages == (
        Average("Object", ("Object/swig", "Object/vg")),
        Average("Attribute", ("Attribute/vaw", "Attribute/vg")),
        Average("Relation", ("Relation/hake", "Relation/vg")),
        Average("macro", ("Object", "Attribute", "Relation")),
    )
    directly = read(*(tmp_path / "data" / name for name in places.values()))
    for one, other in zip(directly.choices, through_yamls.choices, strict=True):
        assert (one.part, one.group, one.looks, one.texts) == (other.part, other.group, other.looks, other.texts)
    assert len(read(tmp_path / "data").choices) == 8


def test_images_of_an_annotation_without_yaml_lie_where_the_repository_puts_them(tmp_path):
    for place, image in {"Attribute/vaw/size.json": "vg", "Relation/swig_action.json": "swig"}.items():
        (choice,) = read(annotation(tmp_path, place)).choices
        assert choice.looks[0].image == f"{image}/VG_100K/1.jpg"


@pytest.mark.parametrize("place", ["vg.json", "Object/coco.json", "vg/Object/coco.json", "size/vg.json"])
def test_a_file_in_no_known_place_is_refused(tmp_path, place):
    with pytest.raises(InputError, match="in no place that says what it tests"):
        read(annotation(tmp_path, place))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (7, "record 1: 7 is not a pair"),
        (["a.jpg"], "is not a pair"),
        ([3, ITEM[1]], "is not a pair"),
        (["a.jpg", []], "a list, expected a JSON object"),
        (["a.jpg", {"POS": ["a"]}], "'NEG' is null"),
        (["a.jpg", {"POS": [], "NEG": ["a"]}], "'POS' is a list, expected a list of texts"),
        (["a.jpg", {"POS": [""], "NEG": ["a"]}], "'POS' holds ''"),
        (["a.jpg", {"POS": "ab", "NEG": ["a"]}], "'POS' is 'ab'"),
    ],
)
def test_a_broken_item_is_refused(tmp_path, item, message):
    with pytest.raises(InputError, match=message):
        read(annotation(tmp_path, "Attribute/vg/size.json", [ITEM, item]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ANNO_PATH: [", "is not yaml"),
        ("", "null, expected a JSON object"),
        ("- a", "a list, expected"),
        ("IMG_ROOT: vg", "'ANNO_PATH' is missing"),
        ("ANNO_PATH: 3", "'ANNO_PATH' is 3"),
        ("ANNO_PATH: a.json", "'IMG_ROOT' is missing"),
        ("ANNO_PATH: a.json\nIMG_ROOT: vg", "neither beside it"),
        ("ANNO_PATH: " + "a" * 5000 + "\nIMG_ROOT: vg", "neither beside it"),
        ('ANNO_PATH: "a\\0"\nIMG_ROOT: vg', "neither beside it"),
        ("ANNO_PATH: a.json\nIMG_ROOT: vg\nTYPE: Object", "TYPE is 'Object'"),
        ("ANNO_PATH: 2001-99-99\nIMG_ROOT: vg", "is not yaml"),
        ("[" * 5000, "is not yaml"),
    ],
)
def test_a_broken_yaml_is_refused(tmp_path, text, message):
    path = tmp_path / "Object" / "vg.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert "\n" not in caught.value.message


def test_an_annotation_that_two_yamls_name_is_refused(tmp_path):
    path = annotation(tmp_path, "Object/Size/vg_size/vg_obj_large.json")
    for place in ("Object/Size/large/vg_obj.yaml", "Object/Size/small/vg_obj.yaml"):
        config(tmp_path, place, str(path))
    with pytest.raises(InputError, match="twice"):
        read(tmp_path / "corpus")
