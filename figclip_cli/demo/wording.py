"""What annotators write about the same clip: nearly the same, each in words of their own.

Every choice follows from the clip, the number of the annotator and what is named, never from an order. One annotator
calls one actor the same in all events of a clip, since whether two phrases are equal says whether they mean the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from figclip_cli.demo.relations import RELATIONS
from figclip_cli.demo.scenario import Actor, Event

# Plain words first. No two shapes share a word, so that different actors never get the same name.
_SHAPE_WORDS = {
    "circle": ("circle", "round shape", "disc"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "star shape"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus sign"),
}
_ACCESSORY_WORDS = {
    "hat": ("with a hat", "wearing a hat", "in a hat"),
    "scarf": ("with a scarf", "wearing a scarf", "in a scarf"),
    "flag": ("with a flag", "carrying a flag", "holding a flag"),
}
_COLOUR_WORDS = {"purple": ("purple", "violet"), "orange": ("orange", "amber")}
_ARTICLES = ("", "the ", "a ")
_SCENE_WORDS = {
    "desert": ("desert", "in the desert", "sand dunes"),
    "sea": ("sea", "in the sea", "open water"),
    "forest": ("forest", "in the forest", "among trees"),
    "night": ("night", "in the night", "in the dark"),
    "snow": ("snow", "in the snow", "snowy field"),
}
_DIRECTION_WORDS = {
    "left": ("left", "to the left", "leftwards"),
    "right": ("right", "to the right", "rightwards"),
    "up": ("up", "upwards", "to the top"),
    "down": ("down", "downwards", "to the bottom"),
}
_MANNER_WORDS = {"slowly": ("slowly", "at a slow pace"), "quickly": ("quickly", "at high speed")}
# Senses that mean the same but that no clip is planned with, and the planned sense it is easily taken for.
_SYNONYMS = {
    "push.01": ("shove.01", "press.01"),
    "drag.01": ("pull.01", "tow.01"),
    "chase.01": ("pursue.01",),
    "flee.01": ("escape.01", "run.02"),
    "hit.01": ("strike.01", "punch.01"),
    "carry.01": ("lug.01", "transport.01"),
    "ride.01": ("straddle.01",),
    "shake.01": ("rock.01",),
    "throw.01": ("fling.01", "toss.01", "hurl.01"),
    "catch.01": ("intercept.01", "grab.01"),
    "lift.01": ("hoist.01",),
    "lower.01": ("sink.01",),
    "climb.01": ("ascend.01",),
    "jump.03": ("hop.01", "leap.03"),
}
_MISTAKEN_FOR = {
    "push.01": "hit.01",
    "drag.01": "push.01",
    "chase.01": "flee.01",
    "flee.01": "chase.01",
    "hit.01": "push.01",
    "carry.01": "lift.01",
    "ride.01": "carry.01",
    "shake.01": "push.01",
    "throw.01": "catch.01",
    "catch.01": "throw.01",
    "lift.01": "lower.01",
    "lower.01": "lift.01",
    "climb.01": "jump.03",
    "jump.03": "climb.01",
}
_PLAIN = 0.8  # share of phrases in plain words
# Of ten annotators, two or more name the same synonym of an event so rarely that it does not become a class of the
# macro-averaged recall, which a model could never have learned.
_SYNONYM, _MISTAKEN = 0.03, 0.1
_AGREEMENT = 0.85  # share of relations that follow the rule


def with_article(name: str) -> str:
    """Return a noun phrase with its indefinite article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class Annotator:
    """One of those who annotated a clip, by number from 0."""

    clip_id: str
    number: int

    def draw(self, *what: object) -> random.Random:
        """Return the random numbers that decide how this annotator puts a thing."""
        key = "/".join(map(str, ("figclip-annotator", self.clip_id, self.number, *what)))
        return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))

    def name(self, actor: Actor) -> str:
        """Return the noun phrase for an actor, without article."""
        colour = self._word(_COLOUR_WORDS.get(actor.colour, (actor.colour,)), "colour", actor.name)
        plain = f"{colour} {self._word(_SHAPE_WORDS[actor.shape], 'shape', actor.name)}"
        if not actor.accessory:
            return plain
        return f"{plain} {self._word(_ACCESSORY_WORDS[actor.accessory], 'accessory', actor.name)}"

    def phrase(self, actor: Actor) -> str:
        """Return the noun phrase for an actor, with the article this annotator uses, if any."""
        article = self.draw("article").choices(_ARTICLES, (5, 3, 2))[0]
        return with_article(self.name(actor)) if article == "a " else f"{article}{self.name(actor)}"

    def scene(self, scene: str) -> str:
        """Return the phrase for where it happens."""
        return self._word(_SCENE_WORDS[scene], "scene")

    def direction(self, direction: str, index: int) -> str:
        """Return the phrase for the direction of event ``index``."""
        return self._word(_DIRECTION_WORDS[direction], "direction", index)

    def manner(self, manner: str, index: int) -> str:
        """Return the phrase for the manner of event ``index``."""
        return self._word(_MANNER_WORDS[manner], "manner", index)

    def sense(self, event: Event, index: int) -> str:
        """Return the verb sense that this annotator sees in event ``index``: mostly that of the plan."""
        drawn = self.draw("verb", index)
        share = drawn.random()
        if share < _SYNONYM:
            return drawn.choice(_SYNONYMS[event.verb.sense])
        return _MISTAKEN_FOR[event.verb.sense] if share < _SYNONYM + _MISTAKEN else event.verb.sense

    def relation(self, label: str, index: int) -> str:
        """Return the relation of event ``index`` to the third one: mostly ``label``."""
        drawn = self.draw("relation", index)
        others = [other for other in RELATIONS if other != label]
        return label if drawn.random() < _AGREEMENT else drawn.choice(others)

    def _word(self, words: Sequence[str], *what: object) -> str:
        drawn = self.draw(*what)
        return words[0] if len(words) == 1 or drawn.random() < _PLAIN else drawn.choice(words[1:])
