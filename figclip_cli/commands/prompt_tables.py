"""What ``build-prompts`` and ``audit-negatives`` show of their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from figclip_cli.commands.tables import table

if TYPE_CHECKING:
    from figclip_cli.prompts import PromptEvent, PromptSummary
    from figclip_cli.prompts.audit import AuditReport

_CHANGED = "bold red"


def summary_table(summary: PromptSummary) -> Table:
    """Return the counts that everyone wants to see."""
    counts = summary.counts
    made = table("Prompts", "what", "count")
    for name in ("clips", "annotations", "events", "verbs"):
        made.add_row(name, f"{counts[name]:,}")
    for name, title in (
        ("clips_missing", "clips of the split not annotated"),
        ("records_left_out", "malformed records left out"),
        ("records_unlabelled", "records without labels"),
        ("events_left_out", "events and joined texts left out"),
    ):
        if counts[name]:
            made.add_row(title, f"{counts[name]:,}")
    made.add_section()
    for kind, count in counts["negatives"].items():
        made.add_row(f"negatives: {kind}", f"{count:,}")
    for kind, count in counts["negatives_missing"].items():
        if count:
            made.add_row(f"negatives fewer than asked: {kind}", f"{count:,}")
    made.add_section()
    made.add_row("prompts over the context", f"{counts['overflow']['events']:,}")
    for arg, count in counts["roles_lost"].items():
        if count:
            made.add_row(f"roles lost: {arg}", f"{count:,}")
    made.add_row("roles with a generic name", f"{sum(counts['generic_roles'].values()):,}")
    return made


def statistics_tables(summary: PromptSummary) -> list[Table]:
    """Return everything that was counted."""
    counts = summary.counts
    roles = table("Roles", "role", "in texts", "named generically", "lost to the context")
    for arg, count in counts["roles"].items():
        generic = counts["generic_roles"].get(arg)
        lost = counts["roles_lost"].get(arg)
        roles.add_row(arg, *("" if number is None else f"{number:,}" for number in (count, generic, lost)))
    lengths = table("Lengths and overflow", "what", "count")
    for name, tokens in counts["tokens"].items():
        lengths.add_row(f"tokens of a prompt with all its roles, {name}", f"{tokens:,}")
    for name, count in counts["overflow"].items():
        lengths.add_row(f"over the context: {name.replace('_', ' ')}", f"{count:,}")
    return [summary_table(summary), roles, lengths]


def sample_texts(events: Iterable[PromptEvent], *, in_colour: bool) -> Iterator[Text]:
    """Yield events with their negatives; what is changed is coloured, or in brackets where there is no colour."""
    for event in events:
        shown = Text(f"\n{event.clip_id}, annotation {event.annotation_index}, event {event.event_index}\n", style="")
        shown.append(f"  {'prompt':18} {event.text}", style="bold" if in_colour else "")
        for negative in event.negatives:
            shown.append(f"\n  {negative.kind:18} ")
            shown.append_text(marked(event.text, negative.text, in_colour=in_colour))
        yield shown


def marked(prompt: str, negative: str, *, in_colour: bool) -> Text:
    """Return a negative with the words that are not the prompt's marked."""
    old, new = prompt.split(), negative.split()
    shown = Text()
    for operation, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = " ".join(new[start:end])
        if words:
            changed = operation != "equal"
            shown.append(" " if shown else "")
            shown.append(f"[{words}]" if changed and not in_colour else words, style=_CHANGED if changed else "")
    return shown


def audit_table(report: AuditReport) -> Table:
    """Return how well texts alone tell each kind."""
    title = f"Told from prompts by the text alone: {report.prompts}"
    made = table(title, "kind", "features", "pairs", "% right", "+/-", "% of pairs", numbers_from=2)
    for kind in report.kinds:
        right = Text(
            f"{kind.accuracy_percent:.1f}{' !' if kind.suspicious else ''}", style="red" if kind.suspicious else ""
        )
        made.add_row(
            kind.kind,
            kind.features,
            f"{kind.held_out_pairs:,}",
            right,
            f"{kind.accuracy_standard_error:.1f}",
            f"{kind.pairwise_percent:.1f}",
        )
    for name, pairs in report.too_few.items():
        made.add_row(name, "", f"{pairs:,}", "too few", "", "")
    return made
