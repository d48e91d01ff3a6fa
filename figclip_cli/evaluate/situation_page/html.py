"""The HTML of the page of situations: headings, pictures and a table for each event. Nothing loads, nothing runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from figclip_cli.evaluate.situation_page.cells import (
    NOT_ANNOTATED,
    counted,
    escaped,
    isolated,
    judge_phrase,
    judge_verb,
    listed,
    mark,
    phrase_cell,
    relation_cell,
    unasked_cell,
    unasked_keys,
    verb_cell,
)
from figclip_cli.evaluate.situation_page.inputs import ChosenClip, ClipPredictions, PageClip, PagePrediction
from figclip_cli.evaluate.situation_page.pictures import EventPictures

_LEGEND = (
    ("right", "verb: the first one is what an annotator named; phrase: the words of an annotator, case and articles "
              "aside; relation: what most annotators say"),
    ("close", "verb: a later one is what an annotator named; phrase: shares a word with an annotator's"),
    ("wrong", "none of that, or nothing"),
)  # fmt: skip
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1f;--soft:#5a5a66;--line:#c9c9d2;--paper:#fff;--panel:#f4f4f7;
--right:#0b6b2e;--close:#7a4b00;--wrong:#a81616}
@media (prefers-color-scheme:dark){:root{--ink:#ececf1;--soft:#a9a9b6;--line:#44444f;--paper:#17171b;--panel:#212127;
--right:#6fdc95;--close:#f0bf6a;--wrong:#ff9a93}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:70rem;font:1rem/1.45 system-ui,sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem;border-top:2px solid var(--line);padding-top:1rem}
h3{font-size:1.05rem;margin:1.4rem 0 .4rem}
a{color:inherit}.soft{color:var(--soft)}
.pictures{display:flex;flex-wrap:wrap;gap:.5rem;margin:.4rem 0}figure{margin:0}
img{width:10rem;max-width:44vw;height:auto;display:block;border:1px solid var(--line)}
figcaption{font-size:.8rem;color:var(--soft)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.3rem 0}
th,td{border:1px solid var(--line);padding:.35rem .5rem;text-align:left;vertical-align:top;min-width:5.5rem}
thead th{overflow-wrap:normal}thead th,tbody th{background:var(--panel)}tbody th{font-weight:600}
ul{margin:0;padding-left:1.1rem}dl{margin:.3rem 0}dt{float:left;clear:left;margin-right:.5rem}
dd{margin:0 0 .3rem}
.mark{font-weight:600;white-space:nowrap}
.right{color:var(--right)}.close{color:var(--close)}.wrong{color:var(--wrong)}
small{font-size:.85rem}
@media (max-width:36rem){body{padding:.6rem;font-size:.95rem}table{font-size:.9rem;min-width:26rem}
th,td{padding:.25rem .35rem;min-width:4.5rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#999;--paper:#fff;--panel:#eee;--right:#0b6b2e;
--close:#7a4b00;--wrong:#a81616}body{max-width:none;padding:0;font-size:10pt}nav{display:none}
.event{break-inside:avoid}h2,h3{break-after:avoid}section>p{break-after:avoid}.wide{overflow:visible}table{min-width:0}
img{width:2.8cm}}
"""


ShownClip = tuple[ChosenClip, PageClip, list[EventPictures]]


def render_page(title: str, shown: Sequence[ShownClip], models: Mapping[str, ClipPredictions]) -> str:
    """Return the whole page; see ``write_page``."""
    links = "".join(
        f'<li><a href="#clip-{n}">{isolated(clip.clip_id)}</a>{_why(clip)}</li>\n'
        for n, (clip, _, _) in enumerate(shown, 1)
    )
    legend = "".join(f"<dt>{mark(verdict)}</dt><dd>{escaped(meaning)}</dd>\n" for verdict, meaning in _LEGEND)
    body = "".join(_clip(number, item, models) for number, item in enumerate(shown, 1))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing is loaded and nothing runs, whatever a text of a prediction tries.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{escaped(title)}</h1>\n{_summary(shown, models)}<h2>What the marks mean</h2>\n<dl>\n{legend}</dl>\n"
        '<p class="soft">CIDEr is that of one phrase, from 0 to 10, where it was computed.</p>\n</header>\n'
        f'<nav aria-label="Clips">\n<h2>Clips</h2>\n<ul>\n{links}</ul>\n</nav>\n'
        f"<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _summary(shown: Sequence[ShownClip], models: Mapping[str, ClipPredictions]) -> str:
    """Return a table of how often each model is right on the clips of the page."""
    rows = ""
    for model, predictions in models.items():
        events = [pair for _, clip, _ in shown for pair in zip(clip.events, _said(predictions, clip), strict=True)]
        verbs = [judge_verb(event, said) for event, said in events]
        phrases = [judge_phrase(role, said) for event, said in events for role in event.roles if role.scored]
        rows += f'<tr><th scope="row">{isolated(model)}</th><td>{_share(verbs)}</td><td>{_share(phrases)}</td></tr>\n'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Model", "Verbs right", "Phrases right"))
    return _table(f"The {len(shown)} clips of this page, which are not the whole data set", head, rows)


def _share(verdicts: Sequence[str]) -> str:
    judged = sum(map(bool, verdicts))
    return f"{verdicts.count('right')} of {judged}" if judged else "not predicted"


def _table(caption: str, head: str, rows: str) -> str:
    # A wide table scrolls by itself, and can be scrolled with the keyboard.
    return (
        f'<div class="wide" role="group" tabindex="0" aria-label="{escaped(caption)}"><table>\n'
        f'<caption class="soft">{escaped(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _clip(number: int, shown: ShownClip, models: Mapping[str, ClipPredictions]) -> str:
    chosen, clip, pictures = shown
    absent = [model for model, predictions in models.items() if clip.clip_id not in predictions]
    notes = "".join(f"<p>{isolated(model)} predicts nothing for this clip.</p>\n" for model in absent)
    missing = dict.fromkeys(event.missing for event in pictures if event.missing)
    notes += "".join(f'<p class="soft">{escaped(why)}</p>\n' for why in missing)
    events = "".join(
        _event(index, clip, pictures[index], {m: _said(p, clip)[index] for m, p in models.items()})
        for index in range(len(clip.events))
    )
    return (
        f'<section id="clip-{number}" aria-labelledby="clip-{number}-name">\n'
        f'<h2 id="clip-{number}-name">{isolated(chosen.clip_id)}</h2>\n'
        + (f"<p>{escaped(chosen.why)}</p>\n" if chosen.why else "")
        + f"{notes}{events}</section>\n"
    )


def _said(predictions: ClipPredictions, clip: PageClip) -> Sequence[PagePrediction | None]:
    return predictions.get(clip.clip_id) or [None] * len(clip.events)


def _event(index: int, clip: PageClip, pictures: EventPictures, said: Mapping[str, PagePrediction | None]) -> str:
    event = clip.events[index]
    name = f"Event {index + 1}"
    head = "".join(f'<th scope="col">{isolated(column)}</th>' for column in ("role", "annotators", *said))
    rows = _row("verb", "", counted(event.verbs), [verb_cell(event, one) for one in said.values()])
    rows += "".join(
        _row(role.key, role.title, listed(role.phrases), [phrase_cell(role, one) for one in said.values()])
        for role in event.roles
    )
    rows += "".join(
        _row(key, "", NOT_ANNOTATED, [unasked_cell(key, one) for one in said.values()])
        for key in unasked_keys(event, said.values())
    )
    if event.relations:
        cells = [relation_cell(event, one) for one in said.values()]
        rows += _row("relation", "to the third event", counted(event.relations), cells)
    return (
        f'<section class="event">\n<h3>{name}</h3>\n{_figures(name, pictures)}'
        f"{_table(f'{name} of {clip.clip_id}', head, rows)}</section>\n"
    )


def _figures(name: str, event: EventPictures) -> str:
    if not event.pictures:
        return ""
    figures = "".join(
        f'<figure><img src="{picture.uri}" alt="{name}, frame {number} of {len(event.pictures)} shown, at '
        f'{picture.seconds:.2f} seconds"><figcaption>{picture.seconds:.2f} s</figcaption></figure>\n'
        for number, picture in enumerate(event.pictures, 1)
    )
    return f'<div class="pictures">\n{figures}</div>\n'


def _row(key: str, title: str, truth: str, cells: Sequence[str]) -> str:
    named = isolated(key) + (f" <small>{isolated(title)}</small>" if title else "")
    return f'<tr><th scope="row">{named}</th><td>{truth}</td>' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>\n"


def _why(clip: ChosenClip) -> str:
    return f' <span class="soft">{escaped(clip.why)}</span>' if clip.why else ""
