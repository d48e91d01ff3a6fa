"""Where results go and what else is written: the same for every task of ``figclip evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.curve_output import curve_line, curve_tables, groups_of_scales
from figclip_cli.commands.scales import ScalePlan, curve_place, files_beside
from figclip_cli.commands.tables import groups_table, results_table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError
from figclip_cli.option_fields import flag

if TYPE_CHECKING:
    from figclip_cli.evaluate.evaluation import Evaluation
    from figclip_cli.evaluate.results import Results
    from figclip_cli.run_folder import RunFolder

_OUTPUT = "Output"
_LONGEST_STEM_BYTES = 200  # endings come after it, and some file systems take less than 255
FramesFlag = Annotated[list[Path] | None, typer.Option("--frames", help="Frames file; repeat for several.")]


@dataclass(frozen=True)
class ResultOptions:
    """What every task writes beside its table; see each field's help."""

    output: Path | None = flag(None, "Results JSON. Default: results/TASK-DATA-MODEL.json", _OUTPUT, also="-o")
    overwrite: bool = flag(False, "Replace existing results and their samples.", _OUTPUT)
    samples: bool = flag(True, "Write every item's outcome beside the results, for figclip compare.", _OUTPUT)
    groups: bool = flag(False, "Also print the numbers of each relation, kind, class or split.", _OUTPUT)

    def place(self, terminal: Terminal, name: str, inputs: Sequence[Path | Sequence[Path] | str | None]) -> Path:
        """Return where the results go, after checking that they can be written.

        Args:
            name: TASK-DATA-MODEL.
            inputs: What the flags name to be read, which is never overwritten.

        Raises:
            UsageError: They or their samples are there already, or are an input.
            MachineError: They cannot be written there.
        """
        from figclip_cli.evaluate.results import samples_path
        from figclip_cli.files import check_output, named_files, shortened

        stem = shortened(name, _LONGEST_STEM_BYTES)
        output = terminal.default(self.output, Path("results") / f"{stem}.json", "results")
        read = named_files(*inputs)
        check_output(output, overwrite=self.overwrite, inputs=read)
        if self.samples:
            check_output(samples_path(output), overwrite=self.overwrite, inputs=read)
        return output


@dataclass(frozen=True)
class OutputOptions(ResultOptions):
    """What is written beside the table of a model's results; see each field's help."""

    clip_benchmark: Path | None = flag(None, "Also write CLIP_benchmark-style records to this folder.", _OUTPUT)
    cache: bool = flag(True, "Use and keep features in .figclip/ in the current folder.", _OUTPUT)

    def cache_folder(self) -> Path | None:
        """Return the folder in whose ``.figclip`` features are kept, or None."""
        return Path() if self.cache else None

    def choose(
        self,
        terminal: Terminal,
        task: str,
        dataset: str,
        run: RunFolder | None,
        inputs: Sequence[Path | Sequence[Path] | str | None],
        plan: ScalePlan,
    ) -> Path:
        """Return where the results or the curve go, after checking that all that is asked for can be written.

        Args:
            inputs: What the flags name to be read, which is never overwritten.
            plan: At which scales the run is evaluated.

        Raises:
            UsageError: They or what lies beside them are there already, or are an input.
            MachineError: They or the records cannot be written there.
        """
        from figclip_cli.files import require_writable

        name = f"{task}-{dataset}-{run.name if run else 'base'}"
        if plan.run is None:
            output = self.place(terminal, name, inputs)
        else:
            output = self._place_curve(terminal, f"{name}-scales", inputs, plan)
        if self.clip_benchmark is not None:
            require_writable(self.clip_benchmark / "record.json")
        return output

    def _place_curve(
        self,
        terminal: Terminal,
        name: str,
        inputs: Sequence[Path | Sequence[Path] | str | None],
        plan: ScalePlan,
    ) -> Path:
        from figclip_cli.files import check_output, named_files, shortened

        given, default = curve_place(self.output, shortened(name, _LONGEST_STEM_BYTES))
        output = terminal.default(given, default, "curve")
        read = named_files(*inputs, None if plan.kept is None else plan.kept.file)
        for path in (output, *files_beside(output, plan.scales, samples=self.samples)):
            check_output(path, overwrite=self.overwrite, inputs=read)
        return output


def finish(
    terminal: Terminal, evaluations: Sequence[Evaluation], output: Path, options: OutputOptions, plan: ScalePlan
) -> None:
    """Write and print what was found.

    Args:
        evaluations: One for each scale of the plan.

    Raises:
        PartialError: Some items were not evaluated; everything is written before.
        InputError: None of the numbers is one that CLIP_benchmark has; they are printed before.
    """
    if plan.run is not None:
        _finish_curve(terminal, evaluations, output, options, plan, plan.run)
        return
    (evaluation,) = evaluations
    results = evaluation.write(output, samples=options.samples)
    tables = [results_table(results)]
    if options.groups and results.groups:
        tables.append(groups_table(results))
    try:
        terminal.result(results.as_document(), *tables, text=str(output), then=_left_out(results, output))
    finally:
        _write_records(terminal, results, options.clip_benchmark)


def _finish_curve(
    terminal: Terminal,
    evaluations: Sequence[Evaluation],
    output: Path,
    options: OutputOptions,
    plan: ScalePlan,
    run: RunFolder,
) -> None:
    from figclip_cli.evaluate.curve import drawing_path, make_curve, write_curve
    from figclip_cli.evaluate.curve_drawing import curve_chart, trade_off_chart
    from figclip_cli.evaluate.curve_kept import trade_off
    from figclip_cli.evaluate.curve_svg import draw

    curve = make_curve(
        evaluations,
        plan.scales,
        output,
        run_name=run.name,
        samples=options.samples,
        metric=plan.metric,
        reporter=terminal,
    )
    trade = None if plan.kept is None else trade_off(curve, plan.kept)
    document = {**curve.as_document(), "trade_off": None if trade is None else trade.as_document()}
    write_curve(output, document, draw(curve_chart(curve) if trade is None else trade_off_chart(trade)))
    results = [evaluation.results for evaluation in evaluations]
    tables = curve_tables(curve, trade)
    if options.groups and results[0].groups:
        tables.append(groups_of_scales(curve, results))
    lines = (curve_line(curve, trade), str(output), str(drawing_path(output)))
    try:
        terminal.result(document, *tables, text="\n".join(lines), then=_left_out(results[0], output))
    finally:
        for one in results:
            _write_records(terminal, one, options.clip_benchmark)


def _left_out(results: Results, output: Path) -> PartialError | None:
    missing = results.missing
    if not missing:
        return None
    first, unit = next(iter(missing)), "images" if "images" in results.asked else "clips"
    return PartialError(
        f"{len(missing)} {unit} were not evaluated, the first is {first}: {missing[first]}",
        f'all of them are listed under "missing" in {output}; the set is smaller than asked for',
    )


def _write_records(terminal: Terminal, results: Results, folder: Path | None) -> None:
    from figclip_cli.evaluate.records import write_records

    for path in write_records(folder, results) if folder is not None else ():
        terminal.info(f"record: {path}")
