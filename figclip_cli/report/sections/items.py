"""Single items as HTML: the text, what each model put first, and frames of the clips, said in words too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from figclip_cli.evaluate.samples import Outcome, Sample
from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.frames import FramesReader
from figclip_cli.report.chosen_items import ChosenItems, base_of, choose_items, has_samples, run_of
from figclip_cli.report.found import RunResults
from figclip_cli.report.markup import Row, nothing, table
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.texts import plain, rank_text, whole

_LONGEST_ALT = 300
_OWN = ("prompts", "choices")  # benchmarks of clips whose items name the event that was looked at
_MOST_DIGITS = 9  # no clip has as many events


@dataclass(frozen=True)
class Shown:
    """The lists of a section, each with its heading and a word for it.

    Attributes:
        part: Only items of this part.
    """

    better: tuple[str, str]
    failing: tuple[str, str]
    worse: tuple[str, str]
    part: str | None


def items_html(entry: RunResults, frames: FrameFiles, count: int, lists: Shown) -> str:
    """Return how many items flipped, and some of each list."""
    if not has_samples(entry):
        why = f"The outcomes of single items are not beside {entry.file}, so none are shown."
        return nothing(why, "figclip evaluate, without --no-samples,")
    chosen = choose_items(entry, lists.part, count)
    reader = frames.reader(entry.results.protocol.get("frames_content_sha256"))
    html = _counts(entry, chosen)
    if reader is None:
        html += f'<p class="none">{escaped(_without_frames(entry))}</p>\n'
    for (heading, word), samples in (
        (lists.better, chosen.better),
        (lists.failing, chosen.failing),
        (lists.worse, chosen.worse),
    ):
        html += f"<h4>{escaped(heading.format(run=plain(entry.run.label, 60)))}</h4>\n"
        cards = "".join(_card(entry, sample, word, chosen.texts, frames, reader) for sample in samples)
        html += f'<ol class="items">\n{cards}</ol>\n' if cards else "<p>None.</p>\n"
    return html


def _without_frames(entry: RunResults) -> str:
    if not isinstance(entry.results.protocol.get("frames_content_sha256"), str):
        return "The pictures are not shown: this benchmark is of images, not of clips in a frames file."
    return (
        "The clips are not shown: no frames file is there whose content is what these results were computed from; "
        "pass it with --frames."
    )


def _counts(entry: RunResults, chosen: ChosenItems) -> str:
    names = ("both", "the base alone", f"{plain(entry.run.label, 60)} alone", "neither")
    rows = [
        Row((f"right with {escaped(name)}",), (f"{count:,}", f"{100 * count / max(1, chosen.n):.1f} %"))
        for name, count in zip(names, chosen.counts, strict=True)
    ]
    return table(
        f"Items of {entry.run.label} by who has them right, {chosen.n:,} in all", ("items", "n", "share"), rows
    )


def _card(
    entry: RunResults,
    sample: Sample,
    word: str,
    texts: Mapping[str, str],
    frames: FrameFiles,
    reader: FramesReader | None,
) -> str:
    base, run = base_of(sample), run_of(sample)
    said = _said(entry, sample, base, run)
    shown = "".join(_looks(entry, sample, texts, frames, reader)) if reader is not None else ""
    pictures = f'<div class="looks">\n{shown}</div>\n' if shown else ""
    return (
        f'<li><p class="text"><span class="hidden">{word}: </span>{isolated(sample.text)}</p>\n{said}{pictures}</li>\n'
    )


def _said(entry: RunResults, sample: Sample, base: Outcome, run: Outcome) -> str:
    label = isolated(entry.run.label)
    if base.rank is not None:
        candidates = entry.results.protocol.get("candidates")
        among = candidates.get(sample.part) if isinstance(candidates, Mapping) else None
        of = f" of {among:,}" if isinstance(among, int) else ""
        return (
            f"<p>Rank of the right clip: base {rank_text(base.rank)}, {label} {rank_text(run.rank)}{of}. "
            f"Margin over the best wrong one: base {base.margin:+.3f}, {label} {run.margin:+.3f}.</p>\n"
        )
    return (
        f"<ul><li>base took {_chosen(base, sample)}</li><li>{label} took {_chosen(run, sample)}</li></ul>\n"
        f'<p class="soft">{isolated(sample.part)} {isolated(sample.group)}. Margin of the right one: '
        f"base {base.margin:+.3f}, {label} {run.margin:+.3f}.</p>\n"
    )


def _chosen(outcome: Outcome, sample: Sample) -> str:
    return "the right one" if outcome.right else f"{isolated(outcome.chosen)} (wrong)"


def _looks(
    entry: RunResults, sample: Sample, texts: Mapping[str, str], frames: FrameFiles, reader: FramesReader
) -> Iterator[str]:
    """Yield the right clip and, where a clip is what is chosen, what each model put first instead of it."""
    if base_of(sample).rank is None:
        clip_id, event = _of_choice(entry, sample)
        yield _figure("the clip", clip_id, event, sample.text, frames, reader)
        return
    level = entry.results.protocol.get("level")
    label = plain(entry.run.label, 40)
    put_first: dict[str, list[str]] = {}
    for name, outcome in (("base", base_of(sample)), (label, run_of(sample))):
        put_first.setdefault(outcome.chosen, []).append(name)
    first = put_first.pop(sample.look, [])
    also = f", put first by {' and '.join(first)}" if first else ""
    yield _figure(f"right clip{also}", *_place(sample.look, level), sample.text, frames, reader)
    for look, names in put_first.items():
        yield _figure(f"put first by {' and '.join(names)}", *_place(look, level), texts.get(look, ""), frames, reader)


def _place(look: str, level: object) -> tuple[str, int | None]:
    """Return the clip and the event of what samples call ``CLIP#EVENT`` where queries are of events."""
    clip_id, _, event = look.rpartition("#")
    index = _index(event)
    return (clip_id, index) if level == "event" and index is not None else (look, None)


def _index(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _of_choice(entry: RunResults, sample: Sample) -> tuple[str, int | None]:
    parts = sample.id.rsplit("/", 3)
    own = entry.results.protocol.get("benchmark") in _OWN and len(parts) == 4 and parts[0] == sample.look
    return sample.look, _index(parts[2]) if own else None


def _figure(what: str, clip_id: str, event: int | None, text: str, frames: FrameFiles, reader: FramesReader) -> str:
    found = frames.frames(reader, clip_id, event)
    where = isolated(clip_id) + ("" if event is None else f", event {event + 1}")
    alt = plain(text, _LONGEST_ALT)
    pictures = "".join(
        f'<img src="{one.uri}" alt="{whole(alt)} (frame {number} of {len(found)} shown, at {one.seconds:.1f} seconds)">'
        for number, one in enumerate(found, start=1)
    )
    missing = "" if found else ' <span class="soft">(no frames of it)</span>'
    return (
        f'<figure class="look"><div class="pictures">{pictures}</div>'
        f"<figcaption>{escaped(what)}: {where}{missing}</figcaption></figure>\n"
    )
