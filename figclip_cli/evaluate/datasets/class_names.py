"""Names of classes: the key two spellings share, and the words that go into a prompt."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

from figclip_cli.errors import InputError, nearest
from figclip_cli.evaluate.datasets.common import quoted

NameStyle = Literal["split", "raw"]
NAME_STYLES: tuple[str, ...] = get_args(NameStyle)

_LONGEST_HINT = 160


def normalised(name: str) -> str:
    """Return the key of a class name: its letters and digits without case.

    ``HandstandPushups``, ``Handstand Pushups`` and ``hand_stand-pushups`` share one, and so do a Something-Something
    template and its label, which differ in square brackets. Data sets are matched by it, never by position: public
    lists of UCF101 and of HMDB51 disagree about the order.
    """
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def spoken(name: str, style: NameStyle = "split") -> str:
    """Return a class name as prompts say it.

    Args:
        name: As the data set's file writes it.
        style: ``split``: square brackets dropped, underscores become spaces, one word in CamelCase is split at its
            capitals (``ApplyEyeMakeup`` to ``Apply Eye Makeup``), outer and double spaces go. A name that has spaces
            already keeps its capitals, and neighbouring capitals stay one word (``TVShow`` to ``TV Show``). ``raw``:
            as written, which is what X-CLIP and ViFi-CLIP feed the text tower.
    """
    if style == "raw":
        return name
    words = name.replace("[", "").replace("]", "").replace("_", " ").split()
    return " ".join(words) if len(words) > 1 else "".join(_split_capitals(word) for word in words)


def _split_capitals(word: str) -> str:
    parts = []
    for index, letter in enumerate(word):
        before, after = word[index - 1 : index], word[index + 1 : index + 2]
        starts_word = before.islower() or ((before.isupper() or before.isdigit()) and after.islower())
        parts.append(f" {letter}" if index and letter.isupper() and starts_word else letter)
    return "".join(parts)


def positions(names: Sequence[str], where: str) -> dict[str, int]:
    """Return the index of each class by its :func:`normalised` name.

    Args:
        where: What the names are of, for example ``"class file names.csv"``.

    Raises:
        InputError: There are no names, one has no letters, or two have one normalised name.
    """
    if not names:
        raise InputError(f"{where} has no classes", "is it the right file?")
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        key = normalised(name)
        if not key:
            raise InputError(
                f"{where}: the class name {quoted(name)} has no letters or digits", "is it the right file?"
            )
        if key in found:
            first = names[found[key]]
            two = (
                f"the class {quoted(name)} twice"
                if first == name
                else f"{quoted(first)} and {quoted(name)}, one name spelt in two ways"
            )
            raise InputError(f"{where} has {two}", "names of classes must differ in more than case and punctuation")
        found[key] = index
    return found


def near_name(name: str, names: Sequence[str]) -> str:
    """Return a hint for a name that is not among ``names``: the nearest one, or a short list."""
    hint = nearest(name, names)
    return hint if len(hint) <= _LONGEST_HINT else "pass the class file that belongs to this list"
