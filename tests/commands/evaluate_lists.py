"""Tiny lists of labelled clips and tiny captions files, each in its benchmark's own format, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate_worlds import CLIPS, names_of, sentences, write


@dataclass(frozen=True)
class Labelled:
    """Lists of clips on disk, and what they say.

    Attributes:
        flags: That name the lists.
        splits: By name, the class of each clip, in the order of the list.
        spoken: What a prompt says of each class, in the order of the classes.
    """

    flags: list[str]
    splits: dict[str, dict[str, str]]
    spoken: dict[str, str]


UCF_SPOKEN = {
    "ApplyEyeMakeup": "Apply Eye Makeup",
    "HammerThrow": "Hammer Throw",
    "Hammering": "Hammering",
    "HandstandPushups": "Handstand Pushups",
    "JumpRope": "Jump Rope",
    "JumpingJack": "Jumping Jack",
    "TaiChi": "Tai Chi",
}
HMDB_SPOKEN = {"brush_hair": "brush hair", "draw_sword": "draw sword", "kick_ball": "kick ball"}
HMDB_TAGS = dict(zip(names_of("hmdb51"), ("222", "122", "210", "122", "201", "120"), strict=True))
"""Of each clip in the three splits: 2 test, 1 train, 0 unused."""


def ucf101(folder: Path) -> Labelled:
    """``testlist01.txt`` and ``classInd.txt`` with their line ends; the folder is spelt otherwise than its clips."""
    clips = dict(
        zip(names_of("ucf101"), ["ApplyEyeMakeup"] * 2 + ["HandstandPushups", "JumpRope", "TaiChi"], strict=True)
    )
    lines = "".join(f"{name}/{clip}.avi\r\n" for clip, name in clips.items())
    numbers = "".join(f"{number} {name}\r\n" for number, name in enumerate(UCF_SPOKEN, start=1))
    flags = ["--list", str(write(folder / "testlist01.txt", lines))]
    flags += ["--classes", str(write(folder / "classInd.txt", numbers))]
    return Labelled(flags, {"split 1": clips}, UCF_SPOKEN)


def _hmdb_class(clip: str) -> str:
    return next(name for name in HMDB_SPOKEN if name in clip)


def _hmdb_splits(order: Sequence[str]) -> dict[str, dict[str, str]]:
    return {
        f"split {n + 1}": {clip: _hmdb_class(clip) for clip in order if HMDB_TAGS[clip][n] == "2"} for n in range(3)
    }


def hmdb51(folder: Path) -> Labelled:
    """The official folder of three files for each class."""
    order = sorted(HMDB_TAGS, key=_hmdb_class)
    for name in HMDB_SPOKEN:
        for split in range(3):
            lines = [f"{clip}.avi {HMDB_TAGS[clip][split]} \n" for clip in order if _hmdb_class(clip) == name]
            write(folder / "splits" / f"{name}_test_split{split + 1}.txt", "".join(lines))
    return Labelled(["--list", str(folder / "splits")], _hmdb_splits(order), HMDB_SPOKEN)


def hmdb51_csv(folder: Path) -> Labelled:
    """MIL-NCE's csv of all clips."""
    rows = [f"{clip}.avi,{_hmdb_class(clip)}_test,{','.join(tags)}\n" for clip, tags in HMDB_TAGS.items()]
    path = write(folder / "hmdb51.csv", "video_id,label,split1,split2,split3\n" + "".join(rows))
    return Labelled(["--list", str(path)], _hmdb_splits(list(HMDB_TAGS)), HMDB_SPOKEN)


def kinetics(folder: Path) -> Labelled:
    """The official csv of the validation clips, and a label map."""
    names = ["abseiling", "air drumming", "tai chi", "tap dancing", "tasting beer", "zumba"]
    clips = dict(zip(names_of("kinetics"), ["tai chi", "abseiling", "zumba"], strict=True))
    rows = ""
    for clip, name in clips.items():
        youtube_id, start, end = clip[:11], int(clip[12:18]), int(clip[19:])
        rows += f"{name},{youtube_id},{start},{end},val\n"
    flags = ["--list", str(write(folder / "val.csv", "label,youtube_id,time_start,time_end,split\n" + rows))]
    flags += ["--classes", str(write(folder / "label_map.txt", "\n".join(names) + "\n"))]
    return Labelled(flags, {"val": clips}, {name: name for name in names})


def ssv2(folder: Path) -> Labelled:
    """Something-Something's records and labels, whose templates have square brackets and labels have not."""
    names = [
        "Approaching something with your camera",
        "Dropping something into something",
        "Pushing something so that it falls",
    ]
    clips = dict(zip(names_of("ssv2"), [names[1], names[0], names[2]], strict=True))
    records = [
        {"id": clip, "label": "dropping a pen", "template": name.replace("something", "[something]")}
        for clip, name in clips.items()
    ]
    flags = ["--list", str(write(folder / "validation.json", records))]
    labels = {name: str(number) for number, name in enumerate(names)}
    flags += ["--classes", str(write(folder / "labels.json", labels))]
    return Labelled(flags, {"validation": clips}, {name: name for name in names})


def vifi(folder: Path) -> Labelled:
    """ViFi-CLIP's list of paths and indexes from 0, and its csv of classes, in another order than HMDB51's own."""
    names = ["kick_ball", "brush_hair", "draw_sword"]
    clips = {clip: _hmdb_class(clip) for clip in HMDB_TAGS}
    lines = "".join(f"{clip}.avi {names.index(name)}\n" for clip, name in clips.items())
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(names))
    flags = ["--list", str(write(folder / "val1.txt", lines))]
    flags += ["--classes", str(write(folder / "hmdb_51_labels.csv", "id,name\n" + rows))]
    return Labelled(flags, {"val1": clips}, {name: HMDB_SPOKEN[name] for name in names})


def plain_actions(folder: Path) -> Labelled:
    """A csv with a column ``split``, of which ``val`` is asked for."""
    clips = dict(zip(names_of("msrvtt"), ["swim", "dive", "swim", "surf", "dive"], strict=True))
    rows = "".join(f"{clip}.mp4,{name},val\n" for clip, name in clips.items())
    path = write(folder / "actions.csv", f"video_id,label,split\nvideo1.mp4,sail,train\n{rows}")
    flags = ["--list", str(path), "--split", "val"]
    return Labelled(flags, {"val": clips}, {name: name for name in ("dive", "sail", "surf", "swim")})


@dataclass(frozen=True)
class Captioned:
    """Captions on disk, and what they say.

    Attributes:
        flags: That name the files.
        queries: Clip, event or None, and texts of each query, in order.
    """

    flags: list[str]
    queries: list[tuple[str, int | None, tuple[str, ...]]]


def _captioned(path: Path, pairs: Sequence[tuple[str, str]], *more: object) -> Captioned:
    flags = ["--captions", str(path), *map(str, more)]
    return Captioned(flags, [(clip, None, (caption,)) for clip, caption in pairs])


def msrvtt_1ka(folder: Path) -> Captioned:
    """The csv of the 1,000 clips; two of its sentences are equal."""
    pairs = [(clip, sentences(number)[0]) for number, clip in enumerate(names_of("msrvtt"))]
    pairs[4] = (pairs[4][0], pairs[1][1])
    rows = [f"ret{n},msr{clip[5:]},{clip},{caption}\n" for n, (clip, caption) in enumerate(pairs)]
    path = write(folder / "MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence\n" + "".join(rows))
    return _captioned(path, pairs)


def msrvtt_data(folder: Path) -> Captioned:
    """MSRVTT_data.json, whose test split has several captions of each clip, not in the clips' order."""
    clips = names_of("msrvtt")
    videos = [{"video_id": clip, "split": "test" if n else "train", "url": "x"} for n, clip in enumerate(clips)]
    pairs = [(clip, sentences(10 * turn + number)[0]) for turn in range(3) for number, clip in enumerate(clips)]
    records = [{"caption": caption, "video_id": clip, "sen_id": n} for n, (clip, caption) in enumerate(pairs)]
    path = write(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": records})
    return _captioned(path, [pair for pair in pairs if pair[0] != clips[0]])


def msvd(folder: Path) -> Captioned:
    """Lists of captions by clip, some of them words, and the list of the test clips, which share one caption."""
    clips = names_of("msvd")
    captions = {clip: [sentences(7 * n + k)[0] for k in range(2 + n % 2)] for n, clip in enumerate(clips)}
    for clip in clips[1:3]:
        captions[clip].append(captions[clips[3]][1])  # which scores highest of all
    path = write(
        folder / "captions_msvd.json",
        {
            clip: [one.split() if n % 2 else one for one in of_clip]
            for n, (clip, of_clip) in enumerate(captions.items())
        },
    )
    ids = write(folder / "test_list.txt", "\n".join([clips[2], clips[1], clips[3]]) + "\n")
    return _captioned(path, [(clip, one) for clip in clips[1:] for one in captions[clip]], "--ids", ids)


def didemo(folder: Path) -> Captioned:
    """Descriptions of moments, which are joined to a paragraph for each clip."""
    clips = [name for name in CLIPS["didemo"] for _ in range(2)]
    clips = clips[::2] + clips[1::2]
    texts = [sentences(30 + n)[0] for n in range(len(clips))]
    records = [
        {"num_segments": 6, "description": text, "dl_link": "x", "times": [[4, 4]], "video": clip, "annotation_id": n}
        for n, (clip, text) in enumerate(zip(clips, texts, strict=True))
    ]
    pairs = [(clip, f"{texts[n]} {texts[n + 3]}") for n, clip in enumerate(names_of("didemo"))]
    return _captioned(write(folder / "test_data.json", records), pairs)


def lsmdc(folder: Path) -> Captioned:
    """Six columns with tabs between them, no header; the ids hold dots."""
    pairs = [(clip, f"{sentences(40 + n)[0].capitalize()}.") for n, clip in enumerate(names_of("lsmdc"))]
    rows = [f"{clip}\t00.00.32.122\t00.00.37.819\t00.00.32.622\t00.00.37.319\t{caption}\n" for clip, caption in pairs]
    return _captioned(write(folder / "LSMDC16_challenge_1000_publictect.csv", "".join(rows)), pairs)


def activitynet(folder: Path) -> Captioned:
    """Sentences of each clip, which are joined to a paragraph; one is over the model's context."""
    document, pairs = {}, []
    for number, clip in enumerate(names_of("activitynet")):
        texts = [f" {sentences(50 + 4 * number + k)[0]}." for k in range(2 if number else 11)]
        times = [[k, k + 1.5] for k in range(len(texts))]
        document[clip] = {"duration": 55.15, "timestamps": times, "sentences": texts}
        pairs.append((clip, " ".join(map(str.strip, texts))))
    return _captioned(write(folder / "val_1.json", document), pairs)


def plain_captions(folder: Path) -> Captioned:
    """A csv whose captions have commas; a clip comes twice."""
    clips = [*names_of("msrvtt"), names_of("msrvtt")[1]]
    pairs = [(clip, f"look, {sentences(60 + n)[0]}") for n, clip in enumerate(clips)]
    rows = "".join(f'{clip}.mp4,"{caption}"\n' for clip, caption in pairs)
    return _captioned(write(folder / "captions.csv", "clip_id,caption\n" + rows), pairs)


def jsonl_captions(folder: Path) -> Captioned:
    """Lines of a clip with one caption or a list of them."""
    clips = names_of("msvd")
    captions = [[sentences(70 + 3 * n + k)[0] for k in range(1 + n % 3)] for n in range(len(clips))]
    lines = [
        json.dumps({"video": clip, "text": of_clip if len(of_clip) > 1 else of_clip[0]})
        for clip, of_clip in zip(clips, captions, strict=True)
    ]
    pairs = [(clip, one) for clip, of_clip in zip(clips, captions, strict=True) for one in of_clip]
    return _captioned(write(folder / "mine.jsonl", "\n".join(lines) + "\n"), pairs)


def prompts_as_queries(folder: Path, prompts: Path, clips: Sequence[str], *, level: str) -> Captioned:
    """Our own prompts of some clips: each event is a query, or each clip is one of all its events' texts."""
    events = [event for event in map(json.loads, prompts.read_text().splitlines()[1:]) if event["clip_id"] in clips]
    ids = write(folder / "ids.txt", "\n".join(clips) + "\n")
    flags = ["--captions", str(prompts), "--level", level, "--ids", str(ids)]
    if level == "event":
        return Captioned(flags, [(one["clip_id"], one["event_index"], (one["text"],)) for one in events])
    texts: dict[str, list[str]] = {}
    for one in events:
        texts.setdefault(one["clip_id"], []).append(one["text"])
    return Captioned(flags, [(clip, None, tuple(of_clip)) for clip, of_clip in texts.items()])
