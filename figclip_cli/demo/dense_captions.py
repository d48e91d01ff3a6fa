"""What happens when in a clip, in sentences: segments of the synthetic world in the format of ActivityNet Captions.

Two rules, both to be seen in the pictures, make their number, lengths and positions differ from clip to clip:
neighbouring events with one agent are one segment, told in one sentence; and an event in which nobody is acted upon
(someone jumps) is not told, and parts what is before it from what is behind. A clip of nothing else is told as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.demo.scenario import EVENTS, ClipPlan, Event
from figclip_cli.demo.wording import Annotator, with_article
from figclip_cli.files import write_json

EVENT_SECONDS = 2.0
CLIP_SECONDS = EVENTS * EVENT_SECONDS
# The second annotator marks borders a little off, and now and then leaves something out.
_SECOND = 1
_BORDER_SECONDS = 0.4
_LEFT_OUT = 0.1
_TERSE = 0.3


@dataclass(frozen=True)
class Segment:
    """Neighbouring events with one agent. Positions are from 0, ``last`` included."""

    first: int
    last: int
    events: tuple[Event, ...]

    @property
    def start_seconds(self) -> float:
        """When it starts."""
        return self.first * EVENT_SECONDS

    @property
    def end_seconds(self) -> float:
        """When it ends."""
        return (self.last + 1) * EVENT_SECONDS


def segments(plan: ClipPlan) -> list[Segment]:
    """Return what is told of a clip, in order of time; at least one segment."""
    told = [index for index, event in enumerate(plan.events) if event.patient is not None]
    runs: list[list[int]] = []
    for index in told:
        if runs and runs[-1][-1] == index - 1 and plan.events[index].agent == plan.events[index - 1].agent:
            runs[-1].append(index)
        else:
            runs.append([index])
    return [_segment(plan, run[0], run[-1]) for run in runs] or [_segment(plan, 0, EVENTS - 1)]


def _segment(plan: ClipPlan, first: int, last: int) -> Segment:
    return Segment(first, last, plan.events[first : last + 1])


def sentence(segment: Segment) -> str:
    """Return one sentence in plain words; direction and manner are told where there is one event."""
    phrases = [_deed(event, with_article(event.patient.name) if event.patient else "") for event in segment.events]
    detail = _detail(segment.events[0]) if len(segment.events) == 1 else ""
    return f"{with_article(segment.events[0].agent.name)} {_joined(phrases)}{detail}"


def _deed(event: Event, patient: str) -> str:
    return f"{event.verb.third_person} {patient}".rstrip()


def _joined(phrases: Sequence[str]) -> str:
    return " and then ".join(dict.fromkeys(phrases))


def _detail(event: Event) -> str:
    # What is lifted or climbed goes up: nobody says it.
    return f" {event.manner}" if event.verb.vertical else f" to the {event.direction} {event.manner}"


def reference(plan: ClipPlan) -> dict[str, Any]:
    """Return ``{duration, timestamps, sentences}`` of a clip as the plan has it; times in seconds."""
    told = segments(plan)
    return _entry([(s.start_seconds, s.end_seconds, sentence(s)) for s in told])


def second_reference(plan: ClipPlan) -> dict[str, Any]:
    """Return what another annotator tells: borders up to 0.4 s off, other words, seldom one segment fewer."""
    who = Annotator(plan.clip_id, _SECOND)
    told = segments(plan)
    kept = [s for s in told if who.draw("left out", s.first).random() >= _LEFT_OUT] or told[:1]
    return _entry([(*_borders(who, s), _other_sentence(who, s, plan.scene)) for s in kept])


def _entry(rows: Sequence[tuple[float, float, str]]) -> dict[str, Any]:
    return {
        "duration": CLIP_SECONDS,
        "timestamps": [[start, end] for start, end, _ in rows],
        "sentences": [text for _, _, text in rows],
    }


def _borders(who: Annotator, segment: Segment) -> tuple[float, float]:
    drawn = who.draw("borders", segment.first)
    start = segment.start_seconds + drawn.uniform(-_BORDER_SECONDS, _BORDER_SECONDS)
    end = segment.end_seconds + drawn.uniform(-_BORDER_SECONDS, _BORDER_SECONDS)
    return round(max(start, 0.0), 2), round(min(end, CLIP_SECONDS), 2)


def _other_sentence(who: Annotator, segment: Segment, scene: str) -> str:
    phrases = [_deed(event, f"the {who.name(event.patient)}" if event.patient else "") for event in segment.events]
    terse = len(phrases) > 1 or who.draw("terse", segment.first).random() < _TERSE
    place = f" {'at' if scene == 'night' else 'in the'} {scene}"
    detail = place if terse else _detail(segment.events[0])
    return f"the {who.name(segment.events[0].agent)} {_joined(phrases)}{detail}"


def write_dense_captions(path: Path, plans: Sequence[ClipPlan], *, second: bool = False) -> None:
    """Write ``{clip id: {duration, timestamps, sentences}}``, as the plans have it or as another annotator does."""
    told = second_reference if second else reference
    write_json(path, {plan.clip_id: told(plan) for plan in plans})
