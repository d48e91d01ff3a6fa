"""The whole page: nothing in it loads, nothing in it runs, whatever a text of a file tries."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.situation_page.cells import escaped
from figclip_cli.report.markup import Section
from figclip_cli.report.style import STYLE
from figclip_cli.report.texts import plain

_LONGEST_TITLE = 120
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        title: As text, from anywhere.
        lead: What stands below it, as HTML.
    """
    named = escaped(plain(title, _LONGEST_TITLE))
    links = "".join(f'<li><a href="#{one.anchor}">{escaped(one.title)}</a></li>\n' for one in sections)
    body = "".join(
        f'<section id="{one.anchor}" aria-labelledby="{one.anchor}-title">\n'
        f'<h2 id="{one.anchor}-title">{escaped(one.title)}</h2>\n{one.html}</section>\n'
        for one in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{named}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f"<header>\n<h1>{named}</h1>\n{lead}</header>\n"
        f'<nav aria-label="Sections">\n<ul>\n{links}</ul>\n</nav>\n'
        f'<main id="main" tabindex="-1">\n{body}</main>\n</body>\n</html>\n'
    )
