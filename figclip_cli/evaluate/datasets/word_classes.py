"""Nouns and adjectives of an English caption, by LemmInflect's dictionary and a few rules of context.

It is made for captions, which are short, in the present tense and about things one can see. It is no parser: where a
word may be several things, the words beside it decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal

from figclip_cli.prompts.english import PREPOSITIONS, noun_lemma, verb_lemma
from figclip_cli.prompts.lexicon import adjective_kinds

WordClass = Literal["noun", "adjective", "other"]

_BE = frozenset("is are was were be been being am 's 're".split())
_SUBJECTS = frozenset("i you he she it we they who that which to can could will would may might must should do".split())
_OPENERS = frozenset(
    "a an the this these those my your his her its our their some any no every each all both another other several "
    "many few more most one two three four five six seven eight nine ten eleven twelve dozen".split()
)
_CLOSED = (
    PREPOSITIONS
    | _BE
    | _SUBJECTS
    | _OPENERS
    | frozenset(
        "and or but nor so if than then as because while when where what why how whose whom there here not n't 'll 've "
        "'d 'm has have had having does did done me him us them himself herself itself themselves someone something "
        "everyone everything anything nothing very too also just only still even almost together apart away back "
        "again already now underneath inside outside amongst atop onto per like unto various up down off out".split()
    )
)
_JOINING = frozenset(("and", "or", ","))
_ING_NOUNS = frozenset(
    "building painting ceiling clothing railing wedding evening morning crossing opening landing awning parking living "
    "dining topping icing frosting setting drawing bedding lighting siding stuffing dressing piping".split()
)
_PLURAL_HEADS = frozenset("people police cattle sheep others two three four five six seven eight nine ten".split())
# After a noun, these are rather verbs than part of a compound: "a man plays", but "traffic lights".
_ACTIONS = frozenset(
    "act bend bite blow board bring browse brush build buy carry catch chase check chew clean climb come compete "
    "cook cover cross cut dance dive do drink drive eat enjoy enter examine eye face feed fight fill fix float "
    "fly follow gather get give go graze grab hang have help hit hold hug inspect jump kick kneel laugh lay lead "
    "lean leap let lie lift listen look make meet move open paint pass pet pick pitch play point pose pour "
    "prepare pull push put race reach read relax rest ride roll run sail sell serve show sing sit ski skate sleep "
    "slice slide smile sniff snowboard speak stand stare step stick stop surf swim swing take talk throw touch "
    "travel try turn use wait wake walk wash watch wave wear work write".split()
)
_ADJECTIVE_ENDING = re.compile(r"(ful|less|ous|ish|able|ible|ive|colou?red|shaped|sized|haired)$")
_HAS_LETTER = re.compile(r"[^\W\d_]")


def word_classes(tokens: Sequence[str]) -> list[WordClass]:
    """Return the class of each token of a caption; whatever is neither noun nor adjective is ``other``."""
    words = [token.lower() for token in tokens]
    classes: list[WordClass] = []
    for place in range(len(words)):
        classes.append(_class_at(words, place, classes))
    return classes


@cache
def _kinds(word: str) -> frozenset[str]:
    """Return what a dictionary says a word may be: of NOUN, VERB, ADJ and ADV; nothing of closed classes."""
    if word in _CLOSED or not _HAS_LETTER.search(word):
        return frozenset()
    if _ADJECTIVE_ENDING.search(word) and "-" in word:
        return frozenset({"ADJ"})
    from lemminflect import getAllLemmas

    last = word.rpartition("-")[2] or word
    kinds = frozenset({"ADV"} if last in _CLOSED else getAllLemmas(last)) & {"NOUN", "VERB", "ADJ", "ADV"}
    if kinds == {"VERB"} and last.endswith("s") and "NOUN" in getAllLemmas(verb_lemma(last)):
        kinds |= {"NOUN"}  # plurals that the dictionary leaves out: "pans", "places"
    if word in adjective_kinds():
        kinds |= {"ADJ"}
    if kinds:
        return kinds
    return frozenset({"ADJ"}) if _ADJECTIVE_ENDING.search(word) else frozenset({"NOUN"})


def _class_at(words: Sequence[str], place: int, before: Sequence[WordClass]) -> WordClass:
    word, kinds = words[place], _kinds(words[place])
    if word in ("front", "back", "top", "side") and place and _opens(words, place, before):
        return "noun"  # "in front of", "on the back of"; the dictionary knows some of them as adjectives first
    if not kinds or kinds <= {"VERB", "ADV"} or word.endswith("ly") and "ADV" in kinds:
        return "noun" if word in _ING_NOUNS and not _has_object(words, place) else "other"
    if kinds == {"NOUN"}:
        return "noun"
    if kinds == {"ADJ"}:
        return "adjective"
    if word.endswith("ing") and "VERB" in kinds:
        return _ing(words, place, before)
    if "ADJ" in kinds and (found := _adjective(words, place, before)):
        return found
    return _noun_or_verb(words, place, before) if "NOUN" in kinds else "other"


def _opens(words: Sequence[str], place: int, before: Sequence[WordClass]) -> bool:
    """Return whether a noun phrase is open before the word: after a determiner, preposition or adjective."""
    previous = words[place - 1] if place else ""
    possessive = previous in ("'s", "'") and place > 1 and before[place - 2] == "noun"
    in_phrase = previous in _OPENERS or previous in PREPOSITIONS or possessive
    return bool(place) and (in_phrase or before[place - 1] == "adjective" and not _after_be(words, place - 1))


def _after_be(words: Sequence[str], place: int) -> bool:
    return bool(place) and words[place - 1] in _BE


def _nominal_next(words: Sequence[str], place: int) -> bool:
    """Return whether the next word may belong to the same noun phrase."""
    if words[place] in adjective_kinds() and place + 2 < len(words) and words[place + 1] in _JOINING:
        return words[place + 2] in adjective_kinds()  # "black and white"
    after = words[place + 1] if place + 1 < len(words) else ""
    if "VERB" in _kinds(after) and _has_object(words, place + 1) and verb_lemma(after) != after:
        return False  # "in red holds a"
    return bool(_kinds(after) & {"NOUN", "ADJ"}) and not (after.endswith("ing") and after not in _ING_NOUNS)


def _has_object(words: Sequence[str], place: int) -> bool:
    return place + 1 < len(words) and words[place + 1] in _OPENERS | _SUBJECTS


def _ing(words: Sequence[str], place: int, before: Sequence[WordClass]) -> WordClass:
    if words[place] in _ING_NOUNS:
        return "other" if _has_object(words, place) else "noun"
    opener = place > 0 and words[place - 1] in _OPENERS
    return "noun" if opener and "NOUN" in _kinds(words[place]) and not _nominal_next(words, place) else "other"


def _adjective(words: Sequence[str], place: int, before: Sequence[WordClass]) -> WordClass | None:
    """Decide about a word that may be an adjective; None leaves it to the rules for nouns and verbs."""
    word, kinds = words[place], _kinds(words[place])
    listed = word in adjective_kinds()
    if place and words[place - 1] == "to" and _has_object(words, place):
        return None  # "to open the door"
    if "VERB" in kinds and not listed and place and before[place - 1] == "noun":
        return None  # "the men open an umbrella"
    if _nominal_next(words, place) or _after_be(words, place):
        first = not place or _opens(words, place, before)
        return "adjective" if listed or "NOUN" not in kinds or (first and "VERB" not in kinds) else None
    if place and words[place - 1] in _OPENERS | PREPOSITIONS and "NOUN" in kinds:
        return "noun"  # "on the left", "in orange"
    if listed or kinds == {"ADJ", "NOUN"}:
        return "adjective"
    return "other" if kinds & {"ADV", "VERB"} else "adjective"


def _noun_or_verb(words: Sequence[str], place: int, before: Sequence[WordClass]) -> WordClass:
    previous = words[place - 1] if place else ""
    if "VERB" not in _kinds(words[place]) or not place:
        return "noun"
    if previous in _SUBJECTS:
        return "other" if previous != "to" or _has_object(words, place) else "noun"
    if _opens(words, place, before):
        return "noun"
    if previous in _JOINING:
        after = words[place + 1] if place + 1 < len(words) else ""
        return "other" if after in _OPENERS | PREPOSITIONS and _acts(words, place) else "noun"
    return "other" if before[place - 1] == "noun" and _acts(words, place) else "noun"


def _acts(words: Sequence[str], place: int) -> bool:
    """Return whether a word after a noun is its verb: "plays" after one, "play" after several."""
    word, previous = words[place], words[place - 1]
    lemma = verb_lemma(word)
    if lemma not in _ACTIONS and not _has_object(words, place):
        return False
    if word != lemma:
        return True
    return previous in _PLURAL_HEADS or noun_lemma(previous) != previous
