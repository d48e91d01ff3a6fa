"""The first section: the headline numbers of base and runs, and all others folded beneath."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.report.comparisons import IN_PERCENT, Comparison
from figclip_cli.report.markup import Section, details, listed, nothing
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.sections.numbers import READING, comparison_table, dots, numbers_table
from figclip_cli.report.texts import whole

ANCHOR, TITLE = "summary", "Summary"


def summary(runs: Sequence[ReportRun], found: Sequence[Comparison]) -> Section:
    """Return what each run is, and its headline numbers beside the base's."""
    html = listed(map(_run_sentence, runs))
    if not found:
        command = f"figclip evaluate retrieval --run {runs[0].folder.path}"
        return Section(ANCHOR, TITLE, html + nothing("There are no results of these runs yet.", command), False)
    heads = [(one, list(one.numbers(one.headline))) for one in found]
    named = [(f"{isolated(one.title)}: {isolated(one.headline)}", numbers) for one, numbers in heads]
    table = numbers_table("The headline number of each task", "task and number", named)
    rows = [(_short(one), numbers) for one, numbers in heads if one.task in IN_PERCENT]
    drawable = [(row, numbers) for row, numbers in rows if numbers[0][1].base_value is not None]
    html += f'{table}<p class="soft">{whole(READING)}</p>\n'
    if drawable:
        html += dots("summary-chart", "Headline numbers of base and runs", "percent", drawable)
    html += "".join(details(f"All numbers: {one.title}", comparison_table(one, one.title)) for one in found)
    return Section(ANCHOR, TITLE, html)


def _run_sentence(run: ReportRun) -> str:
    lora, clips, result = run.config["lora"], run.config["clips"], run.config["result"]
    best = f" by {isolated(result['best_by'])}" if result["selected"] == "best" and result.get("best_by") else ""
    state = f"the {isolated(result['selected'])} state{best}, after step {result['selected_step']:,}"
    how = f"LoRA of rank {lora['rank']} on {len(lora['modules'])} modules" if lora["rank"] else "all weights tuned"
    return (
        f"<strong>{isolated(run.label)}</strong>: {isolated(run.config['model']['name'])}, {how} "
        f"({escaped(lora['towers'])} tower), {clips['used']:,} of {clips['annotated']:,} annotated clips, "
        f"{result['steps']:,} steps in {result['epochs']:,} epochs; its weights are those of {state}."
    )


def _short(comparison: Comparison) -> str:
    return f"{comparison.headline} {comparison.entries[0].results.dataset_id} {comparison.note}".strip()
