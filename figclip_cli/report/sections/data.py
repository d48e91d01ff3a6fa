"""Data coverage: what was trained on, what was evaluated of what was asked, and what this report leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.report.found import Found, RunResults
from figclip_cli.report.markup import Row, Section, details, listed, table
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import code, whole

ANCHOR, TITLE = "data", "Data coverage"
_MOST_MISSING = 20
_CLIPS = (
    ("annotated clips", "annotated"),
    ("used for training", "used"),
    ("held out for validation", "validation"),
    ("excluded by a list", "excluded"),
    ("frames short or failed", "not_ok"),
)


def data(found: Found) -> Section:
    """Return what each run saw, what each result is of, and which files belong to none of the runs."""
    html = "<h3>Training</h3>\n" + _training(found.runs)
    html += "".join(_sources(run) for run in found.runs)
    html += "<h3>Evaluation</h3>\n"
    html += _evaluation(found.results) if found.results else "<p>No result is of these runs.</p>\n"
    html += "<h3>Left out of this report</h3>\n" + _left_out(found)
    return Section(ANCHOR, TITLE, html)


def _training(runs: Sequence[ReportRun]) -> str:
    rows = [Row((name,), tuple(_clips(run, key) for run in runs)) for name, key in _CLIPS]
    rows.append(Row(("clip ids (SHA-256)",), tuple(code(run.config["clips"]["sha256"]) for run in runs)))
    return table("Clips that runs were trained on", ("clips", *(isolated(run.label) for run in runs)), rows)


def _clips(run: ReportRun, key: str) -> str:
    clips = run.config["clips"]
    count = clips.get(key)
    if not isinstance(count, int):
        return "not recorded"
    share = f" ({100 * count / clips['annotated']:.1f} %)" if key != "annotated" else ""
    return f"{count:,}{share}"


def _sources(run: ReportRun) -> str:
    sources = run.config["sources"]
    rows = []
    for number, source in enumerate(sources, start=1):
        for place, (name, value) in enumerate(pairs := _facts(source)):
            rows.append(Row((f"source {number}", escaped(name)), (value,), span=len(pairs) if place == 0 else 0))
    caption = f"What {run.label} was made from"
    return details(caption, table(caption, ("source", "fact", "value"), rows))


def _facts(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    frames, prompts = source["frames"], source["prompts"]
    found = [
        ("frames (SHA-256 of the content)", code(frames["content_sha256"])),
        ("prompts (SHA-256 of the file)", code(prompts["sha256"])),
    ]
    found += [(name, whole(str(source[name]))) for name in ("clips", "weight") if name in source]
    for title, part in (("frames", frames.get("recipe")), ("prompts", prompts.get("options"))):
        if isinstance(part, dict):
            found += [(f"{title}: {name}", isolated(str(value))) for name, value in sorted(part.items())]
    return found


def _evaluation(results: Sequence[RunResults]) -> str:
    rows, missing = [], ""
    for one in results:
        said = one.results
        counts = [f"{said.evaluated[kind]:,} of {asked:,} {escaped(kind)}" for kind, asked in said.asked.items()]
        remarks = [
            f"{escaped(name.replace('_', ' '))}: {said.protocol[name]:,}"
            for name in ("overlong_texts", "duplicate_texts")
            if isinstance(said.protocol.get(name), int)
        ]
        name = f"{isolated(f'{said.task}: {said.dataset_id}')} <small>{isolated(one.file.name)}</small>"
        cells = (
            "<br>".join(counts),
            f"{len(said.missing):,}",
            "<br>".join(remarks) or "none",
            code(said.dataset_sha256),
        )
        rows.append(Row((name, isolated(one.run.label)), cells))
        if said.missing:
            missing += _missing(one)
    columns = ("results", "run", "evaluated of asked", "missing", "remarks", "data set (SHA-256)")
    return table("What results are of", columns, rows) + missing


def _missing(one: RunResults) -> str:
    missing = one.results.missing
    items = [f"{isolated(name)}: {escaped(why)}" for name, why in islice(missing.items(), _MOST_MISSING)]
    if len(missing) > _MOST_MISSING:
        items.append(f"and {len(missing) - _MOST_MISSING:,} more, which the results file lists")
    return details(f"{len(missing):,} missing in {one.file.name}", listed(items))


def _left_out(found: Found) -> str:
    """Return what was read and is not shown, or shown in another way, each with the reason."""
    names = ", ".join(isolated(str(path)) for path in found.in_curves)
    scales = f"<p>Of single scales, and shown in their curve alone: {names}.</p>\n" if names else ""
    if not found.not_used:
        return "<p>No other results file, curve or folder of predictions that was read is left out.</p>\n" + scales
    return scales + listed(f"{isolated(path)}: {isolated(why)}." for path, why in found.not_used.items())
