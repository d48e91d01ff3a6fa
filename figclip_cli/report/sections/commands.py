"""Exact commands and versions: what was recorded, and the flags that this tells where another program was run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.report.found import Found, RunResults
from figclip_cli.report.markup import Row, Section, table
from figclip_cli.report.reproduce import adapt_command, evaluate_command, missing_from_adapt, missing_from_evaluate
from figclip_cli.report.runs import ReportRun, versions_of, words_of
from figclip_cli.report.texts import whole
from figclip_cli.run_folder import environment

ANCHOR, TITLE = "commands", "Commands and versions"
_CAPITALS = (
    "Runs and results record what was in their files, not where they lay: names in capital letters stand for files of "
    "those contents, which the section on data gives by hash."
)


def commands(found: Found) -> Section:
    """Return the command of each run, of each result and of this report, and all versions."""
    html = "<h3>Runs</h3>\n" + "".join(map(_of_run, found.runs))
    html += "<h3>Results</h3>\n"
    html += "".join(_of_results(found)) or "<p>There are none.</p>\n"
    here = environment()
    html += "<h3>This report</h3>\n" + _block(words_of(here))
    html += "<h3>Versions</h3>\n" + _versions(found, here)
    return Section(ANCHOR, TITLE, html)


def _of_run(run: ReportRun) -> str:
    recorded = words_of(run.environment)
    html = f"<h4>{isolated(run.label)}</h4>\n"
    html += "<p>As it was given:</p>\n" + _block(recorded) if recorded else "<p>No command was recorded.</p>\n"
    resumed = run.environment.get("resumed")
    for one in resumed if isinstance(resumed, list) else []:
        if isinstance(one, Mapping) and words_of(one):
            html += "<p>Gone on with by:</p>\n" + _block(words_of(one))
    derived = adapt_command(run)
    if derived is None:
        return html + "<p>Its options are not those of this version, so no flags are given for them.</p>\n"
    said = _as_flags("The options as flags, from its configuration", derived, missing_from_adapt(run))
    return html + said


def _as_flags(what: str, derived: Sequence[str], missing: Sequence[str]) -> str:
    """Return flags that were told from what was recorded, under words that say whether anything may be missing."""
    if not missing:
        return f"<p>{what}:</p>\n" + _block(derived)
    why = " ".join(missing)
    return f"<p>{what}; they may not be complete. {escaped(why)}</p>\n" + _block(derived)


def _of_results(found: Found) -> list[str]:
    blocks = []
    for one in found.results:
        again = "" if _is_evaluate(one.environment) else _evaluated_again(one)
        blocks.append(_recorded(one.file, one.environment) + again)
    for curve in found.curves:
        again = "" if _is_evaluate(curve.environment) else "<p>No flags are told for curves.</p>\n"
        blocks.append(_recorded(curve.file, curve.environment) + again)
    return [*blocks, f'<p class="soft">{escaped(_CAPITALS)}</p>\n'] if blocks else []


def _is_evaluate(environment: Mapping[str, Any]) -> bool:
    return words_of(environment)[1:2] == ["evaluate"]


def _evaluated_again(one: RunResults) -> str:
    derived = evaluate_command(one.run, one.results)
    if derived is None:
        return "<p>What is recorded of this task does not tell its flags.</p>\n"
    return _as_flags("The evaluation as flags, from its protocol", derived, missing_from_evaluate(one.results))


def _recorded(file: Path, environment: Mapping[str, Any]) -> str:
    words = words_of(environment)
    return f"<h4>{isolated(str(file))}</h4>\n" + (_block(words) if words else "<p>No command was recorded.</p>\n")


def _block(words: Sequence[str]) -> str:
    # A line breaks between words alone, so that no flag is torn.
    said = " ".join(f"<span>{whole(shlex.quote(word))}</span>" for word in words)
    return f"<pre><code><bdi>{said}</bdi></code></pre>\n"


def _versions(found: Found, here: Mapping[str, Any]) -> str:
    made = [(isolated(run.label), versions_of(run.environment)) for run in found.runs]
    made += [(isolated(one.file.name), versions_of(one.environment)) for one in found.results]
    made += [(isolated(one.file.parent.name), versions_of(one.environment)) for one in found.curves]
    made.append(("this report", versions_of(here) | {"matplotlib": metadata.version("matplotlib")}))
    names = dict.fromkeys(name for _, versions in made for name in versions)
    columns: dict[tuple[str, ...], list[str]] = {}  # what has the same versions shares a column
    for title, versions in made:
        columns.setdefault(tuple(versions.get(name, "not recorded") for name in names), []).append(title)
    rows = [Row((isolated(name),), tuple(isolated(of[place]) for of in columns)) for place, name in enumerate(names)]
    titles = ("<br>".join(dict.fromkeys(titles)) for titles in columns.values())
    return table("Versions that runs, results and this report were made with", ("program", *titles), rows)
