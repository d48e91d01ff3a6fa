"""Pieces of the page: tables, pictures, sections. They take HTML that is safe already, but for what is called text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from figclip_cli.evaluate.situation_page.cells import escaped
from figclip_cli.report.texts import code, plain, whole

_SIGNS = {"better": "▲", "worse": "▼", "no clear difference": "≈"}
_LONGEST_LABEL, _LONGEST_TITLE = 120, 160


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        anchor: Its id.
        title: Its heading, as text.
        html: What it holds.
        has_material: Whether there was anything to show; else it says which command makes it.
    """

    anchor: str
    title: str
    html: str
    has_material: bool = True


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        heads: Cells that name the row, as HTML; the first may span several rows.
        cells: The others, as HTML.
        span: Rows that the first head spans; 0 where the row above spans this one.
    """

    heads: tuple[str, ...]
    cells: tuple[str, ...]
    span: int = 1


def table(caption: str, columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return a table in a region that scrolls by itself, also with the keyboard.

    Args:
        caption: As text.
        columns: Headings, as text or, in a ``bdi``, as HTML that is safe.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(_row(row) for row in rows)
    label = escaped(plain(caption, _LONGEST_LABEL))
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>\n'
        f"<caption>{escaped(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
        "</table></div>\n"
    )


def _row(row: Row) -> str:
    first, *others = row.heads
    spanning = f'<th scope="rowgroup" rowspan="{row.span}">{first}</th>' if row.span > 1 else ""
    if row.span == 1:
        spanning = f'<th scope="row">{first}</th>'
    heads = spanning + "".join(f'<th scope="row">{head}</th>' for head in others)
    return f"<tr>{heads}{''.join(f'<td>{cell}</td>' for cell in row.cells)}</tr>\n"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values, as text and HTML, as a list of descriptions."""
    return "<dl>\n" + "".join(f"<dt>{escaped(name)}</dt><dd>{value}</dd>\n" for name, value in pairs) + "</dl>\n"


def details(summary: str, html: str) -> str:
    """Return something that is folded until it is asked for; the summary is text."""
    return f"<details><summary>{escaped(summary)}</summary>\n{html}</details>\n"


def chart(svg: str, caption: str, numbers: str) -> str:
    """Return a chart with its caption, as text, and beneath it the same numbers as a table."""
    folded = details("The numbers of this chart", numbers)
    return f'<figure class="chart">\n{svg}\n<figcaption>{whole(caption)}</figcaption>\n{folded}</figure>\n'


def nothing(why: str, command: str) -> str:
    """Return the one sentence of a section without material: why, as text, and the command that makes some."""
    return f'<p class="none">{whole(why)} {code(command)} makes it.</p>\n'


def mark(verdict: str) -> str:
    """Return ``better``, ``worse`` or ``no clear difference`` as sign and words, never as a colour alone."""
    if not verdict:
        return ""
    css = {"better": "right", "worse": "wrong"}.get(verdict, "soft")
    return f'<span class="mark {css}"><span aria-hidden="true">{_SIGNS[verdict]}</span> {verdict}</span>'


def heading(title: str) -> str:
    """Return a title, as text, that has a name from a file in it, cut where the name is long."""
    return plain(title, _LONGEST_TITLE)


def side_by_side(charts: str) -> str:
    """Return charts as two columns where there is room."""
    return f'<div class="charts">\n{charts}</div>\n'


def listed(items: Iterable[str]) -> str:
    """Return items, as HTML, as a list."""
    return "<ul>" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"
