"""The kinds of token that the Penn Treebank lexer of Stanford CoreNLP 3.4.1 knows, for text in ASCII.

Markup with attributes, names of files and rarer kinds are left out: captions have none. Each kind is a pattern of a
token and of what must follow it. What follows counts when kinds compete for the longest match, and is no part of the
token. The order decides between equal lengths.
"""

from __future__ import annotations

import re

_AN = "[A-Za-z0-9]"
_WORD = rf"[A-Za-z]{_AN}*(?:[.!?][A-Za-z]{_AN}*)*"
_NUMBER = r"(?:[0-9]*(?:[.:,][0-9]+)+|[0-9]+)"
_APOSTROPHE = r"(?:'|&apos;)"
_INSIDE = rf"(?:{_APOSTROPHE}|`)"  # an apostrophe within a word, rightly or wrongly
_ELIDED = rf"(?:[dDoOlL]{_INSIDE}{_AN})?"  # d'Avignon, O'Malley
_CLITIC = rf"{_APOSTROPHE}(?i:[msd]|re|ve|ll)"
_NOT = rf"(?i:n{_INSIDE}t)"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])*"
_SLASHED = rf"{_AN}+(?:-[A-Za-z]+){{0,2}}"

_MONTHS_AND_DAYS = "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri"
_STATES = (
    "ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc "
    "wyo"
)
_STATES_IN_CAPITALS = "Az Ark Del Ill La Mass Miss Ore Pa Tex Wash"  # in small letters these are words
_COMPANIES = "inc co cos corp ltd plc rt bancorp bhd assn univ intl sys"
_OTHERS = r"tel est ext sq jr bros ed\.d ph\.d esq etc al seq bldg"
_TITLES = (
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt "
    "st ste ave pres lieut hon brig comdr cmdr pfc spc supt supts det mt ft adj adv asst assoc ens insp mlle mme msgr "
    "sfc sr"
)
_MORE_TITLES = r"vs alex wm jos cie a\.k\.a ph invt elec natl dept blvd rd"
_BEFORE_NUMBERS = "ca fig figs prop no nos art pp op"
_SENTENCE_STARTS = (
    "About According Additionally After An A As At But Did During Earlier He Her Here How However If In It Last Many "
    "More Mr[.] Ms[.] Now Once One Other Our She Since So Some Such That The Their Then There These They This We When "
    "While What Who Why Yet You"
)


def _any_of(*lists: str) -> str:
    return "|".join(word for one in lists for word in one.split())


def _with_capital(words: str) -> str:
    """Return a pattern of words whose first letter is large; the others may be either."""
    return "|".join(f"{word[0]}(?i:{word[1:]})" for word in words.split())


_SMALL = (
    rf"(?i:{_any_of(_MONTHS_AND_DAYS, _STATES, _COMPANIES, _OTHERS)})|(?i:pt)[ey](?i:s?)"
    rf"|(?:{_with_capital(_STATES_IN_CAPITALS)})"
)
_TITLED = rf"(?i:{_any_of(_TITLES, _MORE_TITLES)})|M(?i:iss)|(?i:m)[ft](?i:g)|{_ACRONYM}"

# Words that the Treebank writes as two, and the length of the second.
SPLIT_IN_TWO = {"cannot": 3, "'twas": 3, "'tis": 2, "gonna": 2, "gotta": 2, "lemme": 2, "gimme": 2, "wanna": 2}

_AT_MOST = "{0,99}"  # without a limit the time would grow with the square of a text without spaces
# Addresses: what they may hold, what may end them, and a path after a host.
_HELD, _ENDING = r"[^\s\"<>|(){}]", r"[^\s\"<>|(){}.,!?-]"
_LABEL = r"[^\s\"<>|(){}.,!?]"
_PATH = rf"(?:/{_HELD}+{_ENDING})?"
_BARE_LABEL = "[a-z#%&*+~]"  # the original's range from comma to underscore leaves out capitals and figures
_MAIL = r"[^\s\"<>|(){}.]"
# A number of groups of figures with one separator between two.
_AREA, _REST = r"(?:[0-9]{2,4}[- ])", r"[0-9]{3,4}[- ]?[0-9]{3,5}"
_EYES, _NOSE, _MOUTH = "[:;=]", "[-o*']", r"[()DPdpO\\{@|\[\]]"

# (token, what must follow it)
_Kinds = tuple[tuple[str, str], ...]
_WORDS: _Kinds = (
    (rf"(?i:{'|'.join(SPLIT_IN_TWO)})", ""),
    (r"[cC]\+\+|[cCfF]#", ""),
    # Captions that were words already have these: <unk>, -lrb-.
    (r"</?[A-Za-z][A-Za-z0-9_:.-]* */?>|(?i:-[lr][crs]b-)|&amp;", ""),
    (_WORD, _CLITIC),
    (r"[A-Za-z]*[A-MO-Za-mo-z]", _NOT),
    (_WORD, ""),
)
# Words with an apostrophe that stay whole: 'n', l', somethin', 'em, '80s, O'Malley, Hawai'i, c'mon.
_WHOLE: _Kinds = (
    (rf"{_APOSTROPHE}[nN](?:{_APOSTROPHE}|(?![A-Za-z]))", ""),
    (rf"(?:[dDjJlL]|(?i:ol|somethin)){_APOSTROPHE}", ""),
    (rf"{_APOSTROPHE}(?:(?i:cause|em|till?)|[2-9]0[sS])", ""),
    (rf"(?:[A-HJ-XZ]|n){_INSIDE}[A-Za-z]{{2,}}|[oO]{_INSIDE}[oO]", ""),
    (rf"[A-Za-z]+[aeiouyAEIOUY]{_INSIDE}[aeiouA-Z][A-Za-z]*", ""),
    (r"(?i:c'est|c'mon|cap'n|e'er|ev'ry|li'l|nat'l|nor'easter|s'mores)", ""),
    (rf"[yY]{_APOSTROPHE}", "[A-Za-z]"),
)
_ADDRESSES: _Kinds = (
    (rf"(?i:https?)://{_HELD}+{_ENDING}", ""),
    (rf"(?i:www)\.(?:{_LABEL}+\.)+[A-Za-z]{{2,4}}{_PATH}", ""),
    (rf"(?:{_BARE_LABEL}{{1,63}}\.)+(?i:com|edu|net|org){_PATH}", ""),
    (rf"{_AN}{_HELD}{_AT_MOST}@(?:{_MAIL}+\.)*{_MAIL}+", ""),
    ("@[A-Za-z_][A-Za-z0-9_]*|#[A-Za-z]+", ""),
)
_CUT_OFF: _Kinds = ((_CLITIC, "[^A-Za-z]"), (_NOT, "[^A-Za-z]"))
_NUMBERS: _Kinds = (
    ("[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}", ""),
    (rf"[-+]?{_NUMBER}", ""),
    ("(?:[0-9]{1,4}[- ])?[0-9]{1,4}/[0-9]{1,4}", ""),
    ("(?i:pro-|anti-)", ""),
    (rf"{_SLASHED}(?:/{_SLASHED}){{1,2}}", ""),
    (r"[A-Z]*\$|#", ""),
)
_ABBREVIATED: _Kinds = (
    (rf"(?:{_ACRONYM})\.", rf" +(?:{_any_of(_SENTENCE_STARTS)})[ \n]"),
    (rf"(?i:{_any_of(_BEFORE_NUMBERS)})\.", " ?[0-9]"),
    (rf"(?:{_SMALL})\.", r"[^\n][^\n]"),
    (rf"(?:{_SMALL}|{_TITLED})\.", ""),
    (_TITLED, "[ \n]"),
    ("'[0-9]{2}", "[ \n]"),
    (rf"{_WORD}\.", "[,;:]"),
)
_TELEPHONES: _Kinds = (
    (rf"(?:\([0-9]{{2,3}}\) ?|\+{{0,2}}{_AREA}{{1,2}}){_REST}", ""),
    (r"(?:\+{0,2}[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", ""),
)
_MARKS: _Kinds = (
    (r"\"|&quot;|[`']'", ""),
    (r"<<|>>|<|>|&[lg]t;", ""),
    (f"[<>]?{_EYES}{_NOSE}?{_MOUTH}", "[^A-Za-z0-9]"),
    (r"[][(){}]", ""),
    (r"-+|\.{3,}|\.(?: \.){2,}|@+|_+|\*+|#+|[?!]+|[,;:/=.]", ""),
)
_JOINED: _Kinds = (
    (rf"{_ELIDED}{_AN}+(?:[-_]{_ELIDED}{_AN}+)*", ""),
    (rf"{_AN}[A-Za-z0-9.,]{_AT_MOST}(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|{_AN}+))+", ""),
    ("[A-Z]+(?:[+&][A-Z]+)+", ""),
    (r"['`]|&apos;|[+%&~^|\\]", ""),
)
_KINDS = (*_WORDS, *_WHOLE, *_ADDRESSES, *_CUT_OFF, *_NUMBERS, *_ABBREVIATED, *_TELEPHONES, *_MARKS, *_JOINED)
KINDS = tuple(re.compile(f"({token}){after}") for token, after in _KINDS)
STARTS_SENTENCE = re.compile(rf" +(?:{_any_of(_SENTENCE_STARTS)})[ \n]")
ABBREVIATIONS = frozenset(
    _any_of(
        _MONTHS_AND_DAYS,
        _STATES,
        _STATES_IN_CAPITALS.lower(),
        _COMPANIES,
        _OTHERS,
        _TITLES,
        _MORE_TITLES,
        _BEFORE_NUMBERS,
        "pty pte ptys ptes mfg mtg",
    ).split("|")
)
