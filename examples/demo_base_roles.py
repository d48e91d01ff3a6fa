"""Texts of the synthetic world that tell a whole event, and who and what stands in which role of it."""

from __future__ import annotations

import random

from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, MANNERS, SCENES, SHAPES, VERBS, Actor, Event, plan_clip
from figclip_cli.demo.wording import Annotator

UNTOLD = -100  # what cross-entropy passes over
_DIRECTIONS = ("left", "right", "up", "down")
_LOOKS = (("colour", tuple(COLOURS)), ("shape", SHAPES), ("accessory", ("", *ACCESSORIES)))
# What a text tells, and the values that each may have.
FACTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((f"agent's {name}", values) for name, values in _LOOKS),
    *((f"patient's {name}", values) for name, values in _LOOKS),
    ("verb", tuple(verb.word for verb in VERBS)),
    ("manner", MANNERS),
    ("direction", _DIRECTIONS),
    ("scene", tuple(SCENES)),
)
_SENTENCES = (
    "{who} {does} {whom}{towards} {how}, {where}",
    "{who} {how} {does} {whom}{towards}, {where}",
    "{where}: {how} {who} {does} {whom}{towards}",
    "it is {whom} that {who} {does}{towards}, {how}, {where}",
)


def told_events(clips: int, seed: int, rng: random.Random) -> list[tuple[str, list[int]]]:
    """Draw texts of the events of some clips: a prompt and a sentence of each, with the number of each fact's value."""
    told = []
    for _ in range(clips):
        plan = plan_clip(seed, "train", rng.randrange(10**9))
        for event in plan.events:
            facts = _facts(plan.scene, event)
            for number, words in enumerate((_prompt, _sentence)):
                told.append((words(plan.scene, event, Annotator(f"{plan.clip_id}/{rng.random()}", number), rng), facts))
    return told


def _facts(scene: str, event: Event) -> list[int]:
    values = [*_look(event.agent), *_look(event.patient), event.verb.word, event.manner, event.direction, scene]
    return [UNTOLD if value is None else known.index(value) for value, (_, known) in zip(values, FACTS, strict=True)]


def _look(actor: Actor | None) -> list[str | None]:
    return [None] * len(_LOOKS) if actor is None else [actor.colour, actor.shape, actor.accessory]


def _prompt(scene: str, event: Event, words: Annotator, rng: random.Random) -> str:
    parts = [f"the {event.verb.agent_role} is {words.phrase(event.agent)}"]
    if event.patient is not None:
        parts.append(f"the {event.verb.patient_role} is {words.phrase(event.patient)}")
    parts += [f"direction is {words.direction(event.direction, 0)}", f"manner is {words.manner(event.manner, 0)}"]
    return f"In this photo, the action is {event.verb.word}, {', '.join(parts)}, scene is {words.scene(scene)}."


def _sentence(scene: str, event: Event, words: Annotator, rng: random.Random) -> str:
    forms = _SENTENCES if event.patient is not None else _SENTENCES[:-1]
    return rng.choice(forms).format(
        who=words.phrase(event.agent),
        does=event.verb.third_person,
        whom=words.phrase(event.patient) if event.patient is not None else "",
        towards=f" {words.direction(event.direction, 0)}",
        how=words.manner(event.manner, 0),
        where=words.scene(scene),
    )
