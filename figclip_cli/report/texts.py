"""Texts and numbers of a report: text of files as HTML that it cannot leave, numbers with their errors."""

from __future__ import annotations

from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.situation_page.cells import escaped

_PIECE = 300  # characters; what ``escaped`` takes without cutting
_REPLACED = "\ufffd"
_LONGEST_BRIEF = 60
ALPHA = 0.05
_NORMAL_95 = 1.96


def whole(text: str) -> str:
    """Return a text as HTML, however long it is; commands and hashes must not be cut."""
    return "".join(escaped(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))


def code(text: str) -> str:
    """Return a text as code in HTML, whole, on the line it is on."""
    return f"<code><bdi>{whole(text)}</bdi></code>"


def plain(text: str, longest: int) -> str:
    """Return a text on one line, cut, without what cannot be seen or turns the direction of what follows.

    For places that cannot isolate a text: titles, labels of charts, descriptions.
    """
    line = " ".join("".join(one if one.isprintable() or one.isspace() else _REPLACED for one in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def brief(name: str) -> str:
    """Return a name, as text, for a description that has many."""
    return plain(name, _LONGEST_BRIEF)


def with_error(value: float | None, error: float | None, *, signed: bool = False) -> str:
    """Return ``29.60 ± 1.92``; with a sign, ``+7.80 ± 2.10``."""
    if value is None:
        return "not recorded"
    shown = f"{value:+.2f}" if signed else f"{value:.2f}"
    # A hyphen is read as a dash or not at all; the minus sign is read as minus.
    shown = shown.replace("-", "−")
    return f"{shown} ± {error:.2f}" if error is not None else f"{shown} (no error recorded)"


def count_text(count: int | None) -> str:
    """Return a number of items."""
    return "not recorded" if count is None else f"{count:,}"


def p_text(metric: Metric) -> str:
    """Return a p-value with the name of its test."""
    if metric.p_value is None:
        return "no test"
    shown = "below 0.001" if metric.p_value < 0.001 else f"{metric.p_value:.3f}"
    return f"{shown} ({metric.test})" if metric.test else shown


def reading(metric: Metric) -> str:
    """Return what the difference from the base means: ``better``, ``worse`` or ``no clear difference``."""
    if metric.delta is None:
        return ""
    if metric.p_value is not None:
        is_clear = metric.p_value < ALPHA
    else:
        is_clear = abs(metric.delta) > _NORMAL_95 * (metric.delta_standard_error or 0.0)
    if not is_clear or metric.delta == 0:
        return "no clear difference"
    return "better" if (metric.delta > 0) == metric.higher_is_better else "worse"


def rank_text(rank: float | None) -> str:
    """Return a rank counted from 1, as the metrics count."""
    return "not ranked" if rank is None else f"{rank + 1:g}"
