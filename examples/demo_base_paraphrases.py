"""Pairs of texts that say the same in other words: the paper's prompt of an event, and a sentence."""

from __future__ import annotations

import random
from dataclasses import replace

from figclip_cli.demo.scenario import MANNERS, VERBS, ClipPlan, Event, plan_clip
from figclip_cli.demo.wording import Annotator

_FORMS = (
    "{who} {does} {whom}{towards} {how}, {where}",
    "{who} {how} {does} {whom}{towards}, {where}",
    "{where}: {how} {who} {does} {whom}{towards}",
    "it is {whom} that {who} {does}{towards}, {how}, {where}",
)


def paraphrases(clips: int, seed: int, rng: random.Random) -> list[tuple[str, str]]:
    """Draw pairs for the events of some clips, and for events that differ from these in one thing alone."""
    pairs = []
    for _ in range(clips):
        plan = plan_clip(seed, "train", rng.randrange(10**9))
        for event in plan.events:
            pairs += [_pair(plan, one, rng) for one in (event, changed(event, rng))]
    return pairs


def changed(event: Event, rng: random.Random) -> Event:
    """Return an event with its roles exchanged, or with another verb, manner or direction."""
    other_ways = [way for way in event.verb.ways if way != event.direction]
    changes: list[dict[str, object]] = [{"manner": rng.choice([m for m in MANNERS if m != event.manner])}]
    if other_ways:
        changes.append({"direction": rng.choice(other_ways)})
    if event.patient is not None:
        others = [v for v in VERBS if v != event.verb and v.patient_role and event.direction in v.ways]
        changes += [{"agent": event.patient, "patient": event.agent}] * 2
        changes += [{"verb": rng.choice(others)}] if others else []
    return replace(event, **rng.choice(changes))  # type: ignore[arg-type]


def _pair(plan: ClipPlan, event: Event, rng: random.Random) -> tuple[str, str]:
    words = [Annotator(f"{plan.clip_id}/{rng.random()}", number) for number in range(2)]
    return _prompt(plan.scene, event, words[0]), _sentence(plan.scene, event, words[1], rng)


def _prompt(scene: str, event: Event, words: Annotator) -> str:
    parts = [f"the {event.verb.agent_role} is {words.phrase(event.agent)}"]
    if event.patient is not None:
        parts.append(f"the {event.verb.patient_role} is {words.phrase(event.patient)}")
    parts += [f"direction is {words.direction(event.direction, 0)}", f"manner is {words.manner(event.manner, 0)}"]
    return f"In this photo, the action is {event.verb.word}, {', '.join(parts)}, scene is {words.scene(scene)}."


def _sentence(scene: str, event: Event, words: Annotator, rng: random.Random) -> str:
    forms = _FORMS if event.patient is not None else _FORMS[:-1]
    return rng.choice(forms).format(
        who=words.phrase(event.agent),
        does=event.verb.third_person,
        whom=words.phrase(event.patient) if event.patient is not None else "",
        towards=f" {words.direction(event.direction, 0)}",
        how=words.manner(event.manner, 0),
        where=words.scene(scene),
    )
