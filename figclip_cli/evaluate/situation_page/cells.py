"""Cells of the page of situations: every text escaped, every judgement a word and a sign besides a colour."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from figclip_cli.evaluate.situation_page.inputs import PageEvent, PagePrediction, PageRole

_LONGEST_TEXT = 300  # characters of one phrase; a page of broken predictions must still open
_NOT_FOR_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_ARTICLES = frozenset({"a", "an", "the"})
_SIGNS = {"right": "✓", "close": "≈", "wrong": "✗"}
NOT_ANNOTATED = '<span class="soft">not annotated</span>'
_NOT_PREDICTED = '<span class="soft">not predicted</span>'


def escaped(text: str) -> str:
    """Return a text as HTML, cut where it is very long; characters that HTML cannot hold are shown as such."""
    short = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    return html.escape(_NOT_FOR_HTML.sub("\ufffd", short), quote=True)


def isolated(text: str) -> str:
    """Return a text of a file as HTML; one in Arabic or Hebrew does not turn what stands around it."""
    return f"<bdi>{escaped(text)}</bdi>"


def mark(verdict: str) -> str:
    """Return a verdict, ``right``, ``close`` or ``wrong``, as sign and word."""
    return f'<span class="mark {verdict}"><span aria-hidden="true">{_SIGNS[verdict]}</span> {verdict}</span>'


def counted(labels: Sequence[str]) -> str:
    """Return labels, the commonest first, with the number of annotators who chose each."""
    if not labels:
        return NOT_ANNOTATED
    if len(labels) == 1:
        return isolated(labels[0])
    shares = [f"{isolated(label)} ({votes} of {len(labels)})" for label, votes in Counter(labels).most_common()]
    return shares[0] if len(shares) == 1 else _list(shares)


def listed(phrases: Sequence[str]) -> str:
    """Return phrases, each once, the commonest first."""
    distinct = [phrase for phrase, _ in Counter(phrases).most_common()]
    if not distinct:
        return NOT_ANNOTATED
    return isolated(distinct[0]) if len(distinct) == 1 else _list(map(isolated, distinct))


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def verb_cell(event: PageEvent, said: PagePrediction | None) -> str:
    """Return the cell of a model's verbs."""
    if said is None or said.verbs is None:
        return _NOT_PREDICTED
    verdict = judge_verb(event, said)
    shown = isolated(said.verbs[0]) if said.verbs else "nothing"
    rest = f'<br><small class="soft">then {", ".join(map(isolated, said.verbs[1:]))}</small>' if said.verbs[1:] else ""
    return f"{mark(verdict) if verdict else ''} {shown}{rest}".strip()


def phrase_cell(role: PageRole, said: PagePrediction | None) -> str:
    """Return the cell of a model's phrase for a role."""
    if said is None or said.phrases is None or not (role.scored or role.key in said.phrases):
        return _NOT_PREDICTED
    verdict, phrase = judge_phrase(role, said), said.phrases.get(role.key, "")
    cider = said.cider.get(role.key)
    score = "" if cider is None else f' <small class="soft">CIDEr {cider:.2f}</small>'
    shown = isolated(phrase) if phrase.strip() else "nothing"
    return f"{mark(verdict) if verdict else ''} {shown}{score}".strip()


def relation_cell(event: PageEvent, said: PagePrediction | None) -> str:
    """Return the cell of a model's relation to the third event."""
    if said is None or said.relation is None:
        return _NOT_PREDICTED
    agreed = _majority(event.relations)
    if not agreed:
        return f'{isolated(said.relation)} <small class="soft">annotators do not agree</small>'
    return f"{mark('right' if said.relation == agreed else 'wrong')} {isolated(said.relation)}"


def unasked_cell(key: str, said: PagePrediction | None) -> str:
    """Return the cell of a role that annotators do not have."""
    phrases = (said.phrases if said else None) or {}
    return isolated(phrases[key]) if key in phrases else '<span class="soft">nothing</span>'


def unasked_keys(event: PageEvent, said: Iterable[PagePrediction | None]) -> list[str]:
    """Return the roles that some model predicts and annotators do not have, each once."""
    known = {role.key for role in event.roles}
    predicted = dict.fromkeys(key for one in said if one for key in one.phrases or {})
    return [key for key in predicted if key not in known]


def judge_verb(event: PageEvent, said: PagePrediction | None) -> str:
    """Return ``right`` where the first verb is one that an annotator named, ``close`` where a later one is.

    Returns:
        A verdict; empty where there is nothing to judge. A clip without predictions is wrong.
    """
    if not event.verbs or (said is not None and said.verbs is None):
        return ""
    named = (said.verbs if said else None) or ()
    if named and named[0] in event.verbs:
        return "right"
    return "close" if set(named) & set(event.verbs) else "wrong"


def judge_phrase(role: PageRole, said: PagePrediction | None) -> str:
    """Return ``right`` for the words of one annotator, case and articles aside, ``close`` for a word in common.

    Returns:
        A verdict; empty where there is nothing to judge. A clip without predictions is wrong.
    """
    if not role.phrases or (said is not None and said.phrases is None):
        return ""
    words = _words(((said.phrases if said else None) or {}).get(role.key, ""))
    truths = [_words(phrase) for phrase in role.phrases]
    if words and words in truths:
        return "right"
    return "close" if any(set(words) & set(truth) for truth in truths) else "wrong"


def _words(phrase: str) -> list[str]:
    return [word for word in phrase.casefold().split() if word not in _ARTICLES]


def _majority(labels: Sequence[str]) -> str:
    """Return the label of more than half, or nothing."""
    label, votes = Counter(labels).most_common(1)[0]
    return label if 2 * votes > len(labels) else ""
