"""A folder for each page, with stand-ins under the names that its commands use: tiny models, clips and lists."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from samples import CLIP_IDS, annotation_record, write_video

RELATIONS = {"Ev1": "Causes", "Ev2": "Enables", "Ev4": "NoRel", "Ev5": "Causes"}
TRAIN, VALID = CLIP_IDS[:4], CLIP_IDS[4:]


@dataclass(frozen=True)
class Stage:
    """What scenes are made of: the folder of a finished run, its run, and the program."""

    prepared: Path
    run: Path
    figclip: Path

    def lab(self, folder: Path) -> Path:
        """Videos and annotation, frames, prompts, a base model and a run, under their default names."""
        for name in ("vidsitu", "base-model"):
            shutil.copytree(self.prepared / name, folder / name)
        for name in ("frames.h5", "prompts.jsonl"):
            shutil.copy(self.prepared / name, folder / name)
        shutil.copytree(self.run, folder / "runs" / "quick")
        return folder

    def program(self, folder: Path, line: str) -> None:
        """Make something that a scene begins with."""
        subprocess.run([self.figclip, *line.split()], cwd=folder, check=True, capture_output=True)


def put(path: Path, content: object) -> None:
    """Write a text as it is, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def stub(folder: Path, name: str, body: str) -> None:
    """Put a program of this name first on the path, which first notes its arguments in ``calls.txt``."""
    path = folder / "bin" / name
    put(path, f'#!/bin/bash\nhere=$(dirname "$0")\necho "{name} $*" >> "$here/calls.txt"\n{body}\n')
    path.chmod(0o755)


def vidsitu_files(folder: Path) -> None:
    """VidSitu's own folders: four clips of one annotation, two of four annotations and ten people's verbs."""
    for split, clips, copies in (("train", TRAIN, 1), ("valid", VALID, 4)):
        records = []
        for number, clip in enumerate(clips):
            record = annotation_record(clip, number)
            for event, relation in RELATIONS.items():
                record[event]["EvRel"] = relation
            records += [record] * copies
        put(folder / "split_files" / f"vseg_split_{split}_lb.json", clips)
        put(folder / "vseg_ann_files" / f"vsann_{split}_lb.json", records)
    verbs = {event: ["walk.01"] * 7 + ["run.02"] * 3 for event in ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")}
    info = [{"vid_seg_int": clip, "vb_lst": {e: ["walk"] * 10 for e in verbs}, "vbid_lst": verbs} for clip in VALID]
    put(folder / "vinfo_files" / "vinfo_valid_lb.json", info)


def situation_predictions(folder: Path, verb: str) -> None:
    """Verbs, roles and relations of the two validation clips, all alike."""
    said = {"Arg0": "man with short hair 0", "Arg1": "dog", "AScn": "street"}
    kinds = {
        "verbs": {"pred_vbs_ev": [[verb, "look.01", "hit.01", "push.01", "sit.01"]] * 5},
        "roles": {"vb_output": {f"Ev{number}": said for number in range(1, 6)}},
        "relations": {"pred_evrels_ev": [["Causes"] * 3] * 4},
    }
    for kind, record in kinds.items():
        put(folder / f"{kind}.json", [{"ann_idx": number} | record for number in range(len(VALID))])


def captioned_videos(folder: Path) -> None:
    """Videos, lists and images of the benchmarks, two items each."""
    videos = sorted((folder / "vidsitu").glob("*.mp4"))[:2] or sorted((folder / "videos").glob("*.mp4"))[:2]
    named = {
        "MSRVTT": ("video9770.mp4", "video9771.mp4"),
        "LSMDC": ("1004_Juno_00.00.32.122-00.00.37.819.avi", "1004_Juno_00.00.44.020-00.00.46.000.avi"),
        "UCF-101": ("v_Archery_g01_c01.mp4", "v_YoYo_g01_c01.mp4"),
        "kinetics": ("0wR5jVB-WPk_000417_000427.mp4", "-3B32lodo2M_000059_000069.mp4"),
    }
    for benchmark, names in named.items():
        (folder / benchmark).mkdir()
        for video, name in zip(videos, names, strict=True):
            shutil.copy(video, folder / benchmark / name)
    rows = ["key,vid_key,video_id,sentence", "ret0,msr9770,video9770,a man", "ret1,msr9771,video9771,a dog"]
    put(folder / "MSRVTT_JSFUSION_test.csv", "\n".join(rows) + "\n")
    times = "00.00.32.122\t00.00.37.819\t00.00.32.622\t00.00.37.319"
    lines = [f"{Path(name).stem}\t{times}\tSOMEONE {does}." for name, does in zip(named["LSMDC"], "ab", strict=True)]
    put(folder / "LSMDC16_challenge_1000_publictect.csv", "\n".join(lines) + "\n")
    put(folder / "testlist01.txt", "Archery/v_Archery_g01_c01.avi\nYoYo/v_YoYo_g01_c01.avi\n")
    put(folder / "classInd.txt", "1 Archery\n2 YoYo\n")
    for part in ("swap_obj", "swap_att"):
        item = {"filename": f"{part}.png", "caption": "a cat on a mat", "negative_caption": "a mat on a cat"}
        put(folder / "sugarcrepe" / f"{part}.json", {"0": item})
        (folder / "val2017").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(folder / "val2017" / f"{part}.png")


def quickstart(stage: Stage, folder: Path) -> None:
    demo = folder / "figclip-demo"
    for split in ("train", "test"):
        put(demo / "world" / f"vsann_{split}_lb.json", (stage.prepared / "vidsitu" / "vsann_train_lb.json").read_text())
        shutil.copy(stage.prepared / "frames.h5", demo / f"{split}-frames.h5")
        shutil.copy(stage.prepared / "prompts.jsonl", demo / f"{split}-prompts.jsonl")
    captions = "".join(f"{clip},a walk {number}\n" for number, clip in enumerate(CLIP_IDS))
    put(demo / "world" / "captions_test.csv", "video_id,sentence\n" + captions)
    shutil.copytree(stage.run, demo / "runs" / "demo")
    shutil.copytree(stage.prepared / "base-model", folder / "figclip_cli" / "demo" / "data" / "base")
    flags = "--run figclip-demo/runs/demo --frames figclip-demo/test-frames.h5 --level event"
    output = "-o figclip-demo/results/retrieval-dense.json"
    stage.program(folder, f"evaluate retrieval {flags} --captions figclip-demo/test-prompts.jsonl {output}")


def own_data(stage: Stage, folder: Path) -> None:
    """The csv of the page, with more lines of the same kind; a video for each."""
    shutil.copytree(stage.prepared / "base-model", folder / "base-model")
    rows = """clip,verb,agent,patient,manner,scene
kitchen-01,push.01,woman in red,old car,slowly,street
kitchen-02,chase.01,dog,cat,,garden
kitchen-03,carry.01,man,box,,room
kitchen-04,hit.01,boy,ball,,hall
kitchen-05,look.01,girl,bird,,street
kitchen-06,walk.01,cat,,,room""".splitlines()
    put(folder / "mine.csv", "\n".join(rows) + "\n")
    (folder / "clips").mkdir()
    for number, row in enumerate(rows[1:]):
        write_video(folder / "clips" / f"{row.split(',')[0]}.mp4", seed=number, seconds=2.0, rate=8)


def reproduce(stage: Stage, folder: Path) -> None:
    """What is downloaded is made by programs of the same names, from what lies here."""
    source = folder / "elsewhere"
    vidsitu_files(source / "annotation")
    shutil.copytree(stage.prepared / "vidsitu", source / "videos")
    shutil.copytree(stage.prepared / "base-model", folder / "base-model")
    (folder / "videos").symlink_to(source / "videos")
    captioned_videos(folder)
    (folder / "videos").unlink()
    stub(folder, "curl", 'touch "${@: -1:1}" 2> /dev/null || touch "$(basename "${@: -1}")"')
    stub(folder, "unzip", 'test -e "$2" && cp -r "$here/../elsewhere/annotation/." "$4"')
    put(folder / "vidsitu" / ".keep", "")
    stub(folder, "yt-dlp", 'while [ "$1" != -o ]; do shift; done; cp "$here/../elsewhere/$2" "$2"')


def clusters(stage: Stage, folder: Path) -> None:
    shutil.copytree(stage.prepared / "vidsitu", folder / "videos")
    shutil.copytree(stage.prepared / "base-model", folder / "base-model")
    vidsitu_files(folder / "vidsitu")
    flags = "--config small.toml --split vidsitu/split_files/vseg_split_valid_lb.json -o valid-prompts.jsonl"
    stage.program(folder, f"build-prompts vidsitu/vseg_ann_files/vsann_valid_lb.json {flags}")
    shutil.copy(stage.prepared / "frames.h5", folder / "valid-frames.h5")
    (folder / "node").mkdir()
    stub(folder, "srun", 'exec "$@"')
    stub(folder, "scontrol", "echo node-1; echo node-2")
    stub(folder, "torchrun", 'while [ "$1" != -m ]; do shift; done; shift 2; exec figclip "$@"')
    stub(folder, "python3", "")


def extract_frames(stage: Stage, folder: Path) -> None:
    shutil.copytree(stage.prepared / "vidsitu", folder / "vidsitu")
    put(folder / "parts.csv", f"clip_id,file,start,end\nfirst,{CLIP_IDS[0]}.mp4,2.5,7.5\nwhole,{CLIP_IDS[1]}.mp4,,\n")


def build_prompts(stage: Stage, folder: Path) -> None:
    (folder / "vidsitu").mkdir()
    for path in (folder / "vsann_train_lb.json", folder / "vidsitu" / "vsann_train_lb.json"):
        shutil.copy(stage.prepared / "vidsitu" / "vsann_train_lb.json", path)
    put(folder / "mine.csv", "clip,event,verb,agent,patient,scene\nv1,0,push.01,man,car,street\n")
    put(folder / "captions.json", [{"clip": "v1", "caption": "the action is walk, the walker is man"}])


def adapt(stage: Stage, folder: Path) -> None:
    stage.lab(folder)
    put(folder / "valid.txt", f"{CLIP_IDS[0]}\n")
    put(folder / "held-out.txt", f"{CLIP_IDS[1]}\n")
    stub(folder, "torchrun", 'while [ "$1" != -m ]; do shift; done; shift 2; exec figclip "$@"')


def export(stage: Stage, folder: Path) -> None:
    stage.lab(folder)
    for name in ("NAME", "base-model-rank8"):
        shutil.copytree(stage.run, folder / "runs" / name)
    shutil.rmtree(folder / "runs" / "quick")


def evaluate(stage: Stage, folder: Path) -> None:
    stage.lab(folder)
    captioned_videos(folder)
    stage.program(folder, "extract-frames vidsitu kinetics --config small.toml -o frames.h5")
    for place in ("vidsitu", "vidsitu_data", "vidsitu_annotations"):
        vidsitu_files(folder / place)
    for path in folder.glob("vidsitu_data/*/*"):
        shutil.copy(path, folder / path.name)
    for name, verb in (("predictions", "walk.01"), ("adapted", "walk.01"), ("plain", "sit.01"), ("base", "run.02")):
        situation_predictions(folder / name, verb)
    (folder / "srl.pkl").write_bytes(pickle.dumps(json.loads((folder / "adapted" / "roles.json").read_text())))
    shutil.copy(folder / "frames.h5", folder / "valid-frames.h5")
    rows = "tai chi,0wR5jVB-WPk,417,427,val\nzumba,-3B32lodo2M,59,69,val\n"
    put(folder / "kinetics.csv", "label,youtube_id,time_start,time_end,split\n" + rows)
    put(folder / "labels.csv", "id,name\n0,tai chi\n1,zumba\n")
    video = {"duration": 40, "timestamps": [[0, 10], [20, 30]], "sentences": ["A man runs fast.", "He sits down."]}
    put(folder / "val_1.json", {"v_a": video, "v_b": video})
    put(folder / "val_2.json", {"v_a": {**video, "sentences": ["A man is running.", "He takes a seat."]}})
    for name, text in (
        ("predictions/dense-captions", "a man runs"),
        ("new", "he sits"),
        ("old", "a dog"),
        ("yc2", "x"),
    ):
        said = [{"sentence": text, "timestamp": [0, 10]}]
        document = {"version": "VERSION 1.0", "results": {"v_a": said, "v_b": said}, "external_data": {"used": False}}
        put(folder / f"{name}.json", document)
    steps = [{"segment": [0, 10], "id": 0, "sentence": "cut the bread"}]
    about = {"duration": 40.0, "subset": "validation", "recipe_type": "1", "annotations": steps, "video_url": "x"}
    put(folder / "youcookii_annotations_trainval.json", {"database": {"a": about, "b": about}})
    for name in ("A", "B"):
        stage.program(folder, f"evaluate retrieval --run runs/quick -o results/{name}.json")


GRID = """
[data]
frames = "train-frames.h5"
annotations = "vsann_train_lb.json"
[evaluate]
frames = "train-frames.h5"
prompts = "valid-prompts.jsonl"
[options]
epochs = 1
batch-clips = 3
contextualizer-layers = 1
[[question]]
name = "rank"
vary = { rank = [2] }
"""


def ablate(stage: Stage, folder: Path) -> None:
    """A grid of one setting, and the files that it and the shipped specifications look for."""
    for place in (folder, folder / "demo", folder / "data"):
        put(place / "vsann_train_lb.json", (stage.prepared / "vidsitu" / "vsann_train_lb.json").read_text())
        put(place / "MSRVTT_JSFUSION_test.csv", f"key,vid_key,video_id,sentence\nret0,msr1,{CLIP_IDS[0]},a man\n")
        shutil.copy(stage.prepared / "prompts.jsonl", place / "valid-prompts.jsonl")
        for name in ("train", "valid", "msrvtt"):
            shutil.copy(stage.prepared / "frames.h5", place / f"{name}-frames.h5")
        shutil.copytree(stage.prepared / "base-model", place / "base-model")
    put(folder / "my-grid.toml", f'model = "base-model"\nseeds = [0]\n{GRID}')
    stub(folder, "sbatch", 'test -s "$1"')


def ablations(stage: Stage, folder: Path) -> None:
    ablate(stage, folder)
    (folder / "demo").rename(folder / "figclip-demo")


def report(stage: Stage, folder: Path) -> None:
    stage.lab(folder)
    shutil.copytree(stage.run, folder / "runs" / "NAME")
    stage.program(folder, "adapt --config small.toml --rank 1 --name OTHER")
    stage.program(folder, "evaluate retrieval --run runs/NAME -o results/retrieval.json")


# In this order: what an earlier page has run is not run again.
SCENES: dict[str, Callable[[Stage, Path], None]] = {
    "docs/extract-frames.md": extract_frames,
    "docs/build-prompts.md": build_prompts,
    "docs/adapt.md": adapt,
    "docs/evaluate.md": evaluate,
    "docs/export.md": export,
    "docs/ablate.md": ablate,
    "docs/ablations.md": ablations,
    "docs/report.md": report,
    "docs/quickstart.md": quickstart,
    "docs/own-data.md": own_data,
    "docs/reproduce.md": reproduce,
    "docs/clusters.md": clusters,
}
