"""Tiny compositional benchmarks in their own formats, with images drawn for them, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate_worlds import SIDE, draw, sentences, write

from figclip_cli.evaluate.datasets.aro_order import cleaned, shuffled_captions


@dataclass(frozen=True)
class Item:
    """A choice as a benchmark means it; a look is (image, box or None) or (clip, event or None)."""

    id: str
    looks: tuple[tuple, ...]
    texts: tuple[str, ...]
    part: str
    group: str = ""


@dataclass(frozen=True)
class Benchmark:
    """Files on disk, and what they say.

    Attributes:
        flags: That name the files, and the images where it has some.
        root: Of the images.
        items: In the order in which they are to come out.
    """

    flags: list[str]
    root: Path
    items: list[Item]


def _flags(name: str, annotations: Sequence[Path], root: Path) -> list[str]:
    given = [word for path in annotations for word in ("--annotations", str(path))]
    return ["--benchmark", name, *given, "--images", str(root)]


SUGARCREPE = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")


def sugarcrepe(folder: Path) -> Benchmark:
    """Seven files keyed by numbers, one of which was taken out; the last texts of ``add_att`` are equal."""
    root, items = folder / "val2017", []
    for number in range(4):
        draw(root / f"{number:012d}.jpg", number, width=48 if number == 3 else SIDE)
    for place, part in enumerate(SUGARCREPE):
        records = {}
        for number in (0, 2, 3, 4):
            caption, negative = sentences(place * 5 + number)
            negative = caption if (part, number) == ("add_att", 4) else negative
            image = f"{(place + number) % 4:012d}.jpg"
            records[str(number)] = {"filename": image, "caption": caption, "negative_caption": negative}
            items.append(Item(f"{part}/{number}", ((image, None),), (caption, negative), part))
        write(folder / "data" / f"{part}.json", records)
    return Benchmark(_flags("sugarcrepe", [folder / "data"], root), root, items)


def _regions(folder: Path, part: str, groups: Sequence[tuple[str, dict]]) -> Benchmark:
    """ARO's regions of two images, each item with another box; a box may be wider than high."""
    root, records, items = folder / "vg", [], []
    for number in (1, 2):
        draw(root / f"{number}.jpg", number, width=128, height=96)
    for number, (group, more) in enumerate(groups):
        image, true, false = f"{number % 2 + 1}.jpg", *sentences(number)
        box = (3 * number % 80, 5 * number % 60, SIDE + 2 * (number % 4), SIDE)
        sides = {f"bbox_{side}": value for side, value in zip("xywh", box, strict=True)}
        records.append({"image_id": number, "image_path": image, **sides, "true_caption": true, **more})
        records[-1]["false_caption"] = false
        items.append(Item(f"{part}/{number}", ((image, box),), (true, false), part, group))
    path = write(folder / f"visual_genome_{part[3:]}.json", records)
    return Benchmark(_flags(f"aro-{part}", [path], root), root, items)


def aro_relation(folder: Path) -> Benchmark:
    """Relations of unlike size, two of which are symmetric."""
    names = ["holding"] * 5 + ["next to"] * 3 + ["to the left of"] * 3 + ["eating"] * 2 + ["near"]
    return _regions(folder, "vg-relation", [(name, {"relation_name": name}) for name in names])


def aro_attribution(folder: Path) -> Benchmark:
    """Two pairs of attributes with enough items, and one that is rare."""
    pairs = [("red", "small")] * 26 + [("old", "happy")] * 25 + [("red", "old")] * 3
    return _regions(folder, "vg-attribution", [("_".join(pair), {"attributes": list(pair)}) for pair in pairs])


def aro_order(folder: Path, *, given: bool) -> Benchmark:
    """Captions of which one is too short to be shuffled; either the file has the shuffles, or they are made."""
    name, part = ("aro-flickr-order", "flickr-order") if given else ("aro-coco-order", "coco-order")
    root, records, items = folder / "images", [], []
    for number in range(3):
        image = f"val2014/COCO_val2014_{number:012d}.jpg"
        draw(root / image, 20 + number)
        captions = [f"A {sentences(n)[0][2:]} near two brown cows!" for n in range(4 * number, 4 * number + 3)]
        captions += ["Dogs."]
        options = [
            _reversed(caption)
            if given
            else [cleaned(caption), *shuffled_captions(caption, seed=3, image=image, number=n)]
            for n, caption in enumerate(captions)
        ]
        records.append({"image": image, **({"caption_options": options} if given else {"caption": captions})})
        items += [Item(f"{part}/{image}/{n}", ((image, None),), tuple(texts), part) for n, texts in enumerate(options)]
    path = write(folder / ("flickr30k_test.json" if given else "coco_karpathy_test.json"), records)
    return Benchmark([*_flags(name, [path], root), "--order-seed", "3"], root, items)


def _reversed(caption: str) -> list[str]:
    words = caption.split()
    return [caption, " ".join(reversed(words)), " ".join([*words[2:], *words[:2]])]


VL_CHECKLIST = (
    ("Object/Location/center", "vg", "location/center"),
    ("Object/Location/mid", "vg", "location/mid"),
    ("Object/Size/large", "hake", "size/large"),
    ("Attribute/color", "vaw", "color"),
    ("Relation/action", "swig", "action"),
    ("Relation/spatial", "vg", "spatial"),
)


def vl_checklist(folder: Path) -> Benchmark:
    """The repository's yamls, which name their annotations from the folder in which it is run."""
    root, items = folder / "images", []
    for place, (where, dataset, test) in enumerate(VL_CHECKLIST):
        pictures = "vg" if dataset == "vaw" else dataset
        write(
            folder / "corpus" / "v1" / where / f"{dataset}.yaml",
            f'ANNO_PATH: "data/{place}.json"\nIMG_ROOT: "{pictures}/"\nTYPE: "TUPLE_JSON"\n',
        )
        records, part = [], f"{where.split('/')[0]}/{dataset}"
        for number in range(2 + place % 2):
            image = f"VG_100K_2/{number}.jpg"
            draw(root / pictures / image, 30 + number)
            positive, negative = sentences(50 + 3 * place + number)
            records.append([image, {"POS": [positive, "never looked at"], "NEG": [negative]}])
            name = f"{part}/{test}/{dataset}/{number}"
            items.append(Item(name, ((f"{pictures}/{image}", None),), (positive, negative), part, test))
        write(folder / "data" / f"{place}.json", records)
    kinds = ("Object", "Attribute", "Relation")
    items.sort(key=lambda item: (kinds.index(item.part.split("/")[0]), item.part, item.group))
    return Benchmark(_flags("vl-checklist", [folder / "corpus"], root), root, items)


def winoground(folder: Path) -> Benchmark:
    """Lines of two captions and two images; the captions of the last are equal."""
    root, lines, items = folder / "images", [], []
    for number in range(8):
        images = [f"ex_{number}_img_{side}" for side in (0, 1)]
        for side, image in enumerate(images):
            draw(root / f"{image}.png", 40 + 2 * number + side)
        captions = sentences(number) if number < 7 else ("two dogs", "two dogs")
        tag = ("Object", "Relation", "Both")[number % 3]
        record = {"id": number, "image_0": images[0], "image_1": images[1], "num_main_preds": 1, "collapsed_tag": tag}
        record |= {"caption_0": captions[0], "caption_1": captions[1], "tag": "Noun", "secondary_tag": ""}
        lines.append(json.dumps(record) + "\n")
        looks = tuple((f"{image}.png", None) for image in images)
        items.append(Item(f"winoground/{number}", looks, captions, "winoground", tag))
    path = write(folder / "examples.jsonl", "".join(lines))
    return Benchmark(_flags("winoground", [path], root), root, items)


def valse(folder: Path) -> Benchmark:
    """Two pieces; items that fewer than two of three annotators found valid do not count."""
    root, items = folder / "images", []
    for place, part in enumerate(("existence", "action-replacement")):
        records = {}
        for number, votes in enumerate((3, 1, 2, 0, 3, 2)):
            image = f"{part}_{number}.png"
            if votes > 1:
                draw(root / image, 60 + 6 * place + number)
            caption, foil = sentences(80 + 6 * place + number)
            mturk = {"foil": 3 - votes, "caption": votes, "other": 0}
            records[f"{part}_{number}"] = {"image_file": image, "caption": caption, "foil": foil, "mturk": mturk}
            if votes > 1:
                items.append(Item(f"{part}/{part}_{number}", ((image, None),), (caption, foil), part))
        write(folder / "data" / f"{part}.json", records)
    return Benchmark(_flags("valse", [folder / "data"], root), root, items)


def velociti(folder: Path, clips: Sequence[str]) -> Benchmark:
    """Rows of a clip, a caption that fits it and one that does not, in some of the eight tests."""
    rows, items = [], []
    for number, clip in enumerate(clips * 2):
        test, (pos, neg) = ("agent_bind", "action_adv", "control", "chrono")[number % 4], sentences(100 + number)
        rows.append({"test_name": test, "video_id": clip, "event": "Ev1", "pos": pos, "neg": neg})
        items.append(Item(f"{test}/{clip}/{number}", ((clip, None),), (pos, neg), test))
    path = write(folder / "velociti.json", rows)
    return Benchmark(["--benchmark", "velociti", "--annotations", str(path)], folder, items)


def own_negatives(prompts: Path) -> Benchmark:
    """The negatives of our own prompts, read line by line."""
    items = []
    for event in map(json.loads, prompts.read_text().splitlines()[1:]):
        name = f"{event['clip_id']}/{event['annotation_index']}/{event['event_index']}"
        for number, negative in enumerate(event["negatives"]):
            look, texts = (event["clip_id"], event["event_index"]), (event["text"], negative["text"])
            items.append(Item(f"{name}/{number}", (look,), texts, negative["kind"], event["verb_sense"]))
    return Benchmark(["--benchmark", "prompts", "--annotations", str(prompts)], prompts.parent, items)
