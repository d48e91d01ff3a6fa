"""The synthetic world's annotation as VidSitu publishes its own: one record per clip, or a folder for its leaderboard.

::

    split_files/vseg_split_SPLIT_lb.json     ids of clips
    vinfo_files/vinfo_SPLIT_lb.json          where clips come from; in valid and test, ten verbs of each event
    vseg_ann_files/vsann_SPLIT_lb.json       roles and relations; in valid and test, five records of each clip
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.demo.relations import relations
from figclip_cli.demo.scenario import EVENTS, ClipPlan, Event
from figclip_cli.demo.wording import Annotator
from figclip_cli.files import write_json

VERB_ANNOTATORS = 10
ROLE_ANNOTATORS = 5
_EVENT_SECONDS = 2
_TRAINING = "train"


def write_vidsitu_folder(folder: Path, split: str, plans: Sequence[ClipPlan]) -> None:
    """Write the three files of a split.

    Training clips have one annotation, the very records of :func:`annotate`. Others have ten annotators of verbs and
    five of roles and relations, who disagree a little; all five annotate the planned verb, so that the keys of
    ``Args`` are the same, as the published scorer needs them to be.
    """
    several = split != _TRAINING
    annotators: list[int | None] = [*range(ROLE_ANNOTATORS)] if several else [None]
    write_json(folder / "split_files" / f"vseg_split_{split}_lb.json", [plan.clip_id for plan in plans])
    write_json(
        folder / "vseg_ann_files" / f"vsann_{split}_lb.json",
        [annotate(plan, annotator) for plan in plans for annotator in annotators],
    )
    write_json(folder / "vinfo_files" / f"vinfo_{split}_lb.json", [_information(plan, verbs=several) for plan in plans])


def annotate(plan: ClipPlan, annotator: int | None = None) -> dict[str, Any]:
    """Return a clip's record in the format of VidSitu's ``vsann_*_lb.json``.

    Args:
        plan: The clip.
        annotator: Number of one who words things in a way of their own; without, in the plan's words.
    """
    who = None if annotator is None else Annotator(plan.clip_id, annotator)
    labels = relations(plan)
    record: dict[str, Any] = {}
    for index, event in enumerate(plan.events):
        args = _args(event, plan.scene) if who is None else _args_of(who, plan, index)
        record[f"Ev{index + 1}"] = {
            "vid_uid": _video_id(plan),
            "vid_seg_int": plan.clip_id,
            "Verb": f"{event.verb.word} ({event.verb.agent_role})",
            "VerbID": event.verb.sense,
            "Arg_List": {key: position for position, key in enumerate(args)},
            "Args": args,
        }
        if index in labels:
            label = labels[index]
            record[f"Ev{index + 1}"]["EvRel"] = label if who is None else who.relation(label, index)
    return record


def _video_id(plan: ClipPlan) -> str:
    return plan.clip_id.removeprefix("v_").removesuffix("_seg_0_10")


def _args(event: Event, scene: str) -> dict[str, str]:
    args = {f"Arg0 ({event.verb.agent_role})": event.agent.name}
    if event.patient is not None:
        args[f"Arg1 ({event.verb.patient_role})"] = event.patient.name
    args["ArgM (direction)"] = event.direction
    args["ArgM (manner)"] = event.manner
    args["Scene of the Event"] = scene
    return args


def _args_of(who: Annotator, plan: ClipPlan, index: int) -> dict[str, str]:
    event = plan.events[index]
    args = {f"Arg0 ({event.verb.agent_role})": who.phrase(event.agent)}
    if event.patient is not None:
        args[f"Arg1 ({event.verb.patient_role})"] = who.phrase(event.patient)
    args["ArgM (direction)"] = who.direction(event.direction, index)
    args["ArgM (manner)"] = who.manner(event.manner, index)
    args["Scene of the Event"] = who.scene(plan.scene)
    return args


def _information(plan: ClipPlan, *, verbs: bool) -> dict[str, Any]:
    information: dict[str, Any] = {
        "vid_uid": _video_id(plan),
        "vid_seg_int": plan.clip_id,
        "name": _video_id(plan),
        "text": f"five events in the {plan.scene}",
        "genres": ["synthetic"],
        "duration": EVENTS * _EVENT_SECONDS,
        "start": 0,
        "end": EVENTS * _EVENT_SECONDS,
        "movie_name": "figclip demo",
        "clip_name": plan.clip_id,
        "upload_year": None,
        "year_rel": None,
        "imdb_id": None,
    }
    if verbs:
        named = {f"Ev{index + 1}": _senses(plan, index) for index in range(EVENTS)}
        information["vb_to_use"] = {f"Ev{index + 1}": event.verb.sense for index, event in enumerate(plan.events)}
        information["vb_lst"] = {key: [sense.split(".")[0] for sense in senses] for key, senses in named.items()}
        information["vbid_lst"] = named
    return information


def _senses(plan: ClipPlan, index: int) -> list[str]:
    annotators = (Annotator(plan.clip_id, number) for number in range(VERB_ANNOTATORS))
    return [annotator.sense(plan.events[index], index) for annotator in annotators]
