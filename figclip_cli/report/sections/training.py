"""Training curves: the loss, its terms, and what validation measured."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.situation_page.cells import isolated
from figclip_cli.report.charts import Chart, Series, draw
from figclip_cli.report.markup import Row, Section, chart, heading, nothing, side_by_side, table
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import brief, with_error
from figclip_cli.report.training_log import LOSS, MeanOfSteps

ANCHOR, TITLE = "training", "Training curves"
_TOLD = "told/"
_MOST_LINES = 7
# What a person looks for first; the rest, of which there may be many, goes into the table.
_MEASURES = ("event_mrr", "event_recall_at_1", "hard_negative_accuracy")


def training(runs: Sequence[ReportRun]) -> Section:
    """Return the curves of every run."""
    with_steps = [run for run in runs if run.log.steps]
    if not with_steps:
        command = f"figclip adapt --name {runs[0].folder.name} --resume"
        why = "No step of these runs was logged; going on with one logs the steps that are left."
        return Section(ANCHOR, TITLE, nothing(why, command), False)
    terms = "".join(_terms(run) for run in with_steps if len(run.log.losses) > 1)
    return Section(ANCHOR, TITLE, side_by_side(_losses(with_steps) + terms) + _validation(runs))


def _losses(runs: Sequence[ReportRun]) -> str:
    means = {run.label: run.log.means(LOSS) for run in runs}
    series = [_series(run.label, run.style, means[run.label]) for run in runs if means[run.label]]
    named = [(run.label, found) for run in runs if (found := means[run.label])]
    return _chart("loss", "Loss by step", "loss", series, named, "run")


def _terms(run: ReportRun) -> str:
    names = [name for name in run.log.losses if name != LOSS][:_MOST_LINES]
    named = [(name, run.log.means(name)) for name in names]
    series = [_series(name, number, found) for number, (name, found) in enumerate(named, start=1)]
    return _chart(f"terms-{run.style}", f"Terms of the loss of {run.label}", "loss term", series, named, "term")


def _series(label: str, style: int, means: Sequence[MeanOfSteps]) -> Series:
    errors = [one.standard_error or 0.0 for one in means]
    return Series(label, style, [one.step for one in means], [one.mean for one in means], y_errors=errors)


def _chart(
    name: str,
    title: str,
    y_label: str,
    series: Sequence[Series],
    named: Sequence[tuple[str, Sequence[MeanOfSteps]]],
    what: str,
) -> str:
    title = heading(title)
    said = "; ".join(
        f"{brief(label)} from {found[0].mean:.3g} at step {found[0].step} "
        f"to {found[-1].mean:.3g} at step {found[-1].step}"
        for label, found in named
    )
    rows = [
        Row((isolated(label), f"{one.step:,}"), (_mean(one), f"{one.n:,}"), span=len(found) if place == 0 else 0)
        for label, found in named
        for place, one in enumerate(found)
    ]
    numbers = table(title, (what, "up to step", "mean ± standard error", "n (steps)"), rows)
    drawn = draw(Chart(f"training-{name}", title, f"{title}: {said}.", "step", y_label, series))
    caption = f"{title}. Each point is the mean of the steps since the one before, with one standard error."
    return chart(drawn, caption, numbers)


def _mean(one: MeanOfSteps) -> str:
    return f"{one.mean:.4g} (one step, no error)" if one.standard_error is None else _precise(one)


def _precise(one: MeanOfSteps) -> str:
    return f"{one.mean:.4g} ± {one.standard_error:.2g}".replace("-", "−")


def _validation(runs: Sequence[ReportRun]) -> str:
    """Return a chart for each number that a person looks for, of all runs that have it, and a table of all."""
    validated = [run for run in runs if run.log.validations]
    if not validated:
        return nothing("No run held clips out, so there is no validation curve.", "figclip adapt --validation LIST")
    there = {name for run in validated for name in run.log.measures}
    charts = [
        _measure(name, [run for run in validated if name in run.log.measures]) for name in _MEASURES if name in there
    ]
    return side_by_side("".join(charts)) + _all_measures(validated)


def _measure(name: str, runs: Sequence[ReportRun]) -> str:
    points = {
        run.label: [(one.epoch, 100 * one.numbers[name]) for one in run.log.validations if name in one.numbers]
        for run in runs
    }
    series = [Series(run.label, run.style, *map(list, zip(*points[run.label], strict=True))) for run in runs]
    rows = [
        Row((isolated(label), f"{epoch:,}"), (f"{value:.2f}",), span=len(found) if place == 0 else 0)
        for label, found in points.items()
        for place, (epoch, value) in enumerate(found)
    ]
    said = "; ".join(f"{brief(label)} from {found[0][1]:.1f} to {found[-1][1]:.1f}" for label, found in points.items())
    title = heading(f"Validation by epoch: {name}")
    drawn = draw(Chart(f"validation-{name}", title, f"{title}, percent: {said}.", "epoch", f"{name} (%)", series))
    counts = ", ".join(f"{run.label} {run.config['clips']['validation']:,}" for run in runs)
    caption = f"{title}. Held-out clips: {counts}. Training records no standard error of it."
    return chart(drawn, caption, table(title, ("run", "epoch", "percent"), rows))


def _all_measures(runs: Sequence[ReportRun]) -> str:
    names = sorted({name for run in runs for name in run.log.measures}, key=lambda name: (_TOLD in name, name))
    rows = [
        Row((isolated(name),), tuple(_last(run, name) for run in runs))
        for name in names
    ]  # fmt: skip
    title = "Everything that the last validation measured, in percent"
    return table(title, ("measure", *(isolated(run.label) for run in runs)), rows) + (
        '<p class="soft">told/KIND is the share of hard negatives of a kind that score lower than the prompt.</p>\n'
    )


def _last(run: ReportRun, name: str) -> str:
    last = run.log.validations[-1].numbers
    return with_error(100 * last[name], None).removesuffix(" (no error recorded)") if name in last else "not measured"
