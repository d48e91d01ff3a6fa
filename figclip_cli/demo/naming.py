"""Questions that ask only what is to be seen: what a model of single frames and short captions is good at."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, SCENES, SHAPES, Actor, ClipPlan, Event
from figclip_cli.demo.wording import with_article
from figclip_cli.files import write_text

PARTS = ("object", "colour", "shape", "accessory", "scene")


def write_naming(path: Path, plans: Sequence[ClipPlan]) -> None:
    """Write one right and one wrong text to a line, as ``evaluate compositional --benchmark choices`` reads them."""
    lines = [json.dumps(choice, sort_keys=True) for plan in plans for choice in naming_choices(plan)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def naming_choices(plan: ClipPlan) -> Iterator[dict[str, Any]]:
    """Yield the choices of a clip's events, which follow from the clip alone.

    The wrong text is false of everyone who is to be seen in the event.
    """
    for index, event in enumerate(plan.events):
        rng = random.Random(f"figclip-naming/{plan.clip_id}/{index}")
        for part, right, wrong in _pairs(event, plan.scene, rng):
            yield {"clip_id": plan.clip_id, "event_index": index, "part": part, "texts": [right, wrong]}


def _pairs(event: Event, scene: str, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    there = [actor for actor in (event.agent, event.patient, event.bystander) if actor is not None]
    named = rng.choice([actor for actor in (event.agent, event.patient) if actor is not None])
    seen = {actor.plain_name for actor in there}
    objects = [Actor(colour, shape) for colour in COLOURS for shape in SHAPES]
    for part, others in (
        ("object", objects),
        ("colour", [other for other in objects if other.shape == named.shape]),
        ("shape", [other for other in objects if other.colour == named.colour]),
    ):
        other = rng.choice([other for other in others if other.plain_name not in seen])
        yield part, _picture(named.plain_name), _picture(other.plain_name)
    if named.accessory:
        worn = {actor.accessory for actor in there if actor.plain_name == named.plain_name}
        other = Actor(named.colour, named.shape, rng.choice([thing for thing in ACCESSORIES if thing not in worn]))
        yield "accessory", _picture(named.name), _picture(other.name)
    yield "scene", f"a picture of the {scene}", f"a picture of the {rng.choice([o for o in SCENES if o != scene])}"


def _picture(name: str) -> str:
    return f"a picture of {with_article(name)}"
