"""ARO's order tests: each caption of COCO or Flickr30k against four shuffles of its words.

Format and shuffles: mertyg/vision-language-models-are-bows (Yuksekgonul et al., 2023), ``aro_datasets.py``,
``perturbations.py`` and ``retrieval.py``. The shuffles are made there when the data is loaded, from a global random
state, with spaCy's tags and nltk's tokens, so no published score can be had bit for bit. Here they are made by rules of
our own from a seed, the image, the caption's number and the kind of shuffle, and by nothing else. A tie counts as right
there, because the true caption comes first, and so does a shuffle that changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, records, texts_in
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import require_str, shown_value
from figclip_cli.evaluate.datasets.word_classes import word_classes
from figclip_cli.files import canonical_json

MAX_WORDS = 30
GENERATOR = "figclip-aro-order-1"
"""Name of the rules that make the shuffles; another name means that other texts come out."""

_REMOVED = re.compile(r'[.!"()*#:;~]')
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|\d+(?:[.,:]\d+)+|(?:(?!n't\b)[\w-])+|\S", re.IGNORECASE)
_RULE = PartRule("micro", "lenient")
Draw = Callable[[int], list[int]]


def read_coco_order(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read ``coco_karpathy_test.json``: 5,000 images with five captions and more, each a choice among five texts.

    Raises:
        InputError: The file is not a list of images with captions, or a record is broken.
    """
    return _read(benchmark, paths, seed, "coco-order", "coco_karpathy_test.json")


def read_flickr_order(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read ``flickr30k_test.json``, which is like COCO's.

    Raises:
        InputError: The file is not a list of images with captions, or a record is broken.
    """
    return _read(benchmark, paths, seed, "flickr-order", "flickr30k_test.json")


def cleaned(caption: str) -> str:
    """Return a caption as ARO shows it to a model: lower case, without ``. ! " ( ) * # : ; ~``, at most 30 words."""
    return " ".join(_REMOVED.sub(" ", caption.lower()).split()[:MAX_WORDS])


def tokens(caption: str) -> list[str]:
    """Split a caption into words, clitics (``'s``, ``n't``) and single signs; nothing but white space is lost."""
    return _TOKEN.findall(caption.replace("\u2019", "'"))


def _shuffle_at(words: Sequence[str], places: Iterable[int], draw: Draw) -> list[str]:
    places, shuffled = list(places), list(words)
    for place, other in zip(places, draw(len(places)), strict=True):
        shuffled[place] = words[places[other]]
    return shuffled


def nouns_and_adjectives(words: Sequence[str], draw: Draw) -> list[str]:
    """Shuffle the nouns among themselves, then the adjectives among themselves."""
    classes = word_classes(words)
    for wanted in ("noun", "adjective"):
        words = _shuffle_at(words, (n for n, found in enumerate(classes) if found == wanted), draw)
    return list(words)


def all_but_nouns_and_adjectives(words: Sequence[str], draw: Draw) -> list[str]:
    """Shuffle everything that is neither noun nor adjective."""
    return _shuffle_at(words, (n for n, found in enumerate(word_classes(words)) if found == "other"), draw)


def within_trigrams(words: Sequence[str], draw: Draw) -> list[str]:
    """Shuffle each three words that follow each other."""
    for start in range(0, len(words), 3):
        words = _shuffle_at(words, range(start, min(start + 3, len(words))), draw)
    return list(words)


def trigrams(words: Sequence[str], draw: Draw) -> list[str]:
    """Keep each three words together and shuffle the threes."""
    threes = [words[start : start + 3] for start in range(0, len(words), 3)]
    return [word for place in draw(len(threes)) for word in threes[place]]


SHUFFLES: dict[str, Callable[[Sequence[str], Draw], list[str]]] = {
    "nouns-and-adjectives": nouns_and_adjectives,
    "all-but-nouns-and-adjectives": all_but_nouns_and_adjectives,
    "within-trigrams": within_trigrams,
    "trigrams": trigrams,
}
"""In ARO's order, which is that of the wrong texts of a choice."""


def shuffled_captions(caption: str, *, seed: int, image: str, number: int) -> tuple[str, ...]:
    """Return the four shuffles of a caption, cleaned; they depend on the arguments alone."""
    words = tokens(caption)
    return tuple(
        cleaned(" ".join(shuffle(words, _drawer(seed, image, number, kind)))) for kind, shuffle in SHUFFLES.items()
    )


def _drawer(seed: int, image: str, number: int, kind: str) -> Draw:
    """Return a function that draws orders of n things.

    The order of random doubles is taken, because that stream is the same in every version of numpy.
    """
    digest = hashlib.sha256(canonical_json([GENERATOR, seed, image, number, kind]).encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    return lambda n: [int(place) for place in np.argsort(generator.random(n), kind="stable")]


def _read(benchmark: str, paths: Sequence[Path], seed: int, part: str, name: str) -> Compositional:
    what = f"captions file of ARO {part}"
    found = known_files(paths, (name,), what)
    choices: list[Choice] = []
    given = 0
    for path in found.paths:
        for where, record in records(path, what):
            image, options = _options(record, where, seed)
            given += "caption_options" in record
            looks = (Look(image=image),)
            choices += [Choice(f"{part}/{image}/{n}", looks, texts, part) for n, texts in enumerate(options)]
    made = "caption_options of the file" if given else GENERATOR
    remarks: dict[str, Any] = {"shuffles": made, "unchanged_shuffles": _unchanged(choices)}
    if given not in (0, len({choice.looks for choice in choices})):
        raise InputError(f"benchmark {benchmark}: only some records have caption_options", "give them all, or none")
    if not given:
        remarks["seed"] = seed
        remarks["comparable"] = "the shuffles are figclip's own, so scores are not bit for bit those of other code"
    return assembled(benchmark, paths, found.paths, choices, {part: _RULE}, remarks=remarks, ignored=found.ignored)


def _options(record: dict[str, Any], where: str, seed: int) -> tuple[str, list[tuple[str, ...]]]:
    """Return a record's image and the texts of each of its captions, the true one first."""
    image = require_str(record, "image", where)
    if "caption_options" in record:
        lists = record["caption_options"]
        if not isinstance(lists, list) or not lists:
            raise InputError(
                f"{where}: 'caption_options' is {shown_value(lists)}, expected a list of lists", "is it complete?"
            )
        options = [texts_in(texts, where, "'caption_options'") for texts in lists]
    else:
        captions = texts_in(record.get("caption"), where, "'caption'")
        options = [
            (cleaned(caption), *shuffled_captions(caption, seed=seed, image=image, number=number))
            for number, caption in enumerate(captions)
        ]
    for texts in options:
        if len(texts) < 2 or not all(texts):
            raise InputError(f"{where}: a caption without words, or without a shuffle", "correct the record")
    return image, options


def _unchanged(choices: Sequence[Choice]) -> dict[str, int]:
    """Count, by kind of shuffle, the wrong texts that are the true one but for white space."""
    counts: Counter[str] = Counter(dict.fromkeys(SHUFFLES, 0))
    for choice in choices:
        true = tokens(choice.texts[0])
        kinds = list(SHUFFLES) if len(choice.texts) == len(SHUFFLES) + 1 else []
        for number, text in enumerate(choice.texts[1:]):
            counts[kinds[number] if kinds else "any"] += tokens(text) == true
    return dict(counts)
