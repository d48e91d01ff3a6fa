"""Write the synthetic world as files: videos, annotation in VidSitu's format, split lists, coarse captions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.demo.render import draw_clip, write_mp4
from figclip_cli.demo.scenario import SPLITS, ClipPlan, Event, plan_clip
from figclip_cli.errors import UsageError, nearest
from figclip_cli.files import write_json
from figclip_cli.reporting import SILENT, Reporter

_THIRD_EVENT = 2


@dataclass(frozen=True)
class WorldFiles:
    """Where everything is.

    Attributes:
        videos: Folder of mp4 files, by split.
        annotations: ``vsann_SPLIT_lb.json``, by split.
        captions: ``captions_test.csv``: what is to be seen in each test clip, but not what happens.
    """

    videos: dict[str, Path]
    annotations: dict[str, Path]
    captions: Path


def write_world(folder: Path, *, seed: int, counts: Mapping[str, int], reporter: Reporter = SILENT) -> WorldFiles:
    """Draw clips and write their annotation.

    Args:
        folder: Where; made if absent.
        seed: Decides every clip.
        counts: Clips of each split, for example ``{"train": 160, "valid": 20, "test": 100}``.

    Raises:
        UsageError: A split is not one of the world's.
        MachineError: ffmpeg failed or the disk is full.
    """
    for split in counts:
        if split not in SPLITS:
            raise UsageError(f"the world has no split '{split}'", nearest(split, SPLITS))
    plans = {split: [plan_clip(seed, split, number) for number in range(count)] for split, count in counts.items()}
    videos = {split: folder / "videos" / split for split in plans}
    annotations = {split: folder / f"vsann_{split}_lb.json" for split in plans}
    todo = [(plan, videos[split] / f"{plan.clip_id}.mp4") for split in plans for plan in plans[split]]
    for path in videos.values():
        path.mkdir(parents=True, exist_ok=True)
    # Threads suffice: most of the time is ffmpeg's.
    with reporter.track("draw clips", len(todo), "clips") as progress, ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda item: write_mp4(item[1], draw_clip(item[0])), todo):
            progress.advance()
    for split, of_split in plans.items():
        write_json(annotations[split], [annotate(plan) for plan in of_split])
        write_json(folder / f"vseg_split_{split}_lb.json", [plan.clip_id for plan in of_split])
    captions = folder / "captions_test.csv"
    _write_captions(captions, plans.get("test", []))
    return WorldFiles(videos, annotations, captions)


def annotate(plan: ClipPlan) -> dict[str, Any]:
    """Return a clip's record in the format of VidSitu's ``vsann_*_lb.json``."""
    record: dict[str, Any] = {}
    for index, event in enumerate(plan.events):
        args = _args(event, plan.scene)
        record[f"Ev{index + 1}"] = {
            "vid_uid": plan.clip_id.removeprefix("v_").removesuffix("_seg_0_10"),
            "vid_seg_int": plan.clip_id,
            "Verb": f"{event.verb.word} ({event.verb.agent_role})",
            "VerbID": event.verb.sense,
            "Arg_List": {key: position for position, key in enumerate(args)},
            "Args": args,
            **({} if index == _THIRD_EVENT else {"EvRel": "NoRel"}),
        }
    return record


def _args(event: Event, scene: str) -> dict[str, str]:
    args = {f"Arg0 ({event.verb.agent_role})": event.agent.name}
    if event.patient is not None:
        args[f"Arg1 ({event.verb.patient_role})"] = event.patient.name
    args["ArgM (direction)"] = event.direction
    args["ArgM (manner)"] = event.manner
    args["Scene of the Event"] = scene
    return args


def coarse_caption(plan: ClipPlan) -> str:
    """Return a caption that names who is there and where, but not what happens."""
    actors = dict.fromkeys(a.name for event in plan.events for a in (event.agent, event.patient) if a is not None)
    names = [with_article(name) for name in sorted(actors)]
    return f"{', '.join(names[:-1])} and {names[-1]}, {plan.scene}" if len(names) > 1 else f"{names[0]}, {plan.scene}"


def with_article(name: str) -> str:
    """Return a noun phrase with its indefinite article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _write_captions(path: Path, plans: Sequence[ClipPlan]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "sentence"])
        writer.writerows([plan.clip_id, coarse_caption(plan)] for plan in plans)
