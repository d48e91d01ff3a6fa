"""Annotations in VidSitu's format, made up for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WALK_ARGS = {
    "Arg0 (walker)": "man with short hair",
    "ArgM (direction)": "forward",
    "ArgM (manner)": "slowly",
    "Scene of the Event": "apartment",
}


def event(args: dict[str, Any] | None = None, *, verb: str = "walk", sense: str = "walk.01", **other: Any) -> dict:
    """Return an event without its clip; ``order`` in ``other`` replaces Arg_List."""
    args = dict(WALK_ARGS if args is None else args)
    order = other.pop("order", {key: place for place, key in enumerate(args)})
    return {"Verb": verb, "VerbID": sense, "Args": args, "Arg_List": order, "EvRel": "Causes", **other}


def record(clip_id: str, *events: dict) -> dict:
    """Return a record of five events; the ones not given repeat the last."""
    events = events or (event(),)
    five = [*events, *[events[-1]] * (5 - len(events))]
    return {f"Ev{n}": {"vid_uid": clip_id[2:13], "vid_seg_int": clip_id, **e} for n, e in enumerate(five, 1)}


def write(path: Path, *records: Any) -> Path:
    """Write records as an annotation file."""
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    return path


def push(pusher: str, pushed: str) -> dict:
    """Return an event with an agent and a patient."""
    return event({"Arg0 (pusher)": pusher, "Arg1 (thing pushed)": pushed}, verb="push", sense="push.01")


def world() -> list[dict]:
    """Return a few clips whose verbs and nouns differ."""
    look = event({"Arg0 (looker)": "girl", "Arg1 (thing looked at)": "dog"}, verb="look", sense="look.01")
    hit = event(
        {"Arg0 (hitter)": "boy in blue", "Arg1 (thing hit)": "ball", "Arg2 (instrument)": "bat"},
        verb="hit",
        sense="hit.01",
    )
    return [
        record("v_a_seg_0_10", event(), push("woman in red", "old car"), look),
        record("v_b_seg_0_10", hit, push("tall soldier", "heavy door")),
        record("v_c_seg_0_10", look, event({**WALK_ARGS, "Arg0 (walker)": "waiter"})),
    ]


def lines_of(path: Path) -> list[dict]:
    """Return the JSON of every line, the header first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
